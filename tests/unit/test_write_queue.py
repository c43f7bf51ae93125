"""In hand, the newest version of each id is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.engine.work import Outcome, RunningItem, RunningJob, Summary
from embedq_worker.engine.write_queue import newest


def item(item_id: str, version: int, text: str | None) -> RunningItem:
    """An item of a job of its own."""
    return RunningItem(
        RunningJob(1, lane="live", source=None, finish=lambda _: None), item_id, version, text, None
    )


items = st.lists(
    st.builds(item, st.sampled_from("abc"), st.integers(0, 3), st.none() | st.sampled_from(["x", "y"]))
)


@given(items)
def test_newest_keeps_one_of_each_id(items: list[RunningItem]) -> None:
    """The highest version, of equals the higher hash; nothing is lost."""
    kept, older = newest(items)
    assert len({kept_item.id for kept_item in kept}) == len(kept)
    assert sorted(map(id, [*kept, *older])) == sorted(map(id, items))
    for kept_item in kept:
        assert kept_item.order == max(other.order for other in items if other.id == kept_item.id)


def test_a_job_is_finished_with_its_last_item() -> None:
    """And says what became of each."""
    summaries: list[Summary] = []
    job = RunningJob(3, lane="live", source=None, finish=summaries.append)
    job.settle(Outcome.STORED, tokens=5)
    job.settle(Outcome.SUPERSEDED)
    assert not summaries
    job.settle(Outcome.STORED, tokens=7)
    (summary,) = summaries
    assert (summary["items"], summary["stored"], summary["superseded"], summary["tokens"]) == (3, 2, 1, 12)
