"""The planned load: as large as asked, the same for the same seed, and with everything in it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.load import COLLECTIONS, MARKER, plan


@given(st.integers(0, 10**6), st.integers(1, 500))
@settings(max_examples=30)
def test_a_plan_is_as_large_as_asked(seed: int, items: int) -> None:
    """So many items, no version of an id twice, and the marker in poison alone."""
    writes = [write for call in plan(seed, items) for write in call.writes]
    assert len(writes) == items
    assert max(Counter((*write.key, write.version) for write in writes).values()) == 1
    for write in writes:
        assert write.poison == (MARKER in (write.text or ""))


def test_a_plan_is_repeatable() -> None:
    """The seed decides everything."""
    assert plan(7, 3000) == plan(7, 3000)
    assert plan(7, 3000) != plan(8, 3000)


def test_a_plan_has_everything() -> None:
    """Both collections and lanes, versions out of order, deletes, repeats, poison, messages of all sizes."""
    calls = plan(1, 5000)
    writes = [write for call in calls for write in call.writes]
    assert {(call.collection, call.lane) for call in calls} == {
        (collection, lane) for collection in COLLECTIONS for lane in ("live", "bulk")
    }
    ids = Counter(write.key for write in writes)
    assert max(ids.values()) > 3
    versions = [write.version for write in writes if ids[write.key] > 1]
    assert versions != sorted(versions)
    assert sum(write.text is None for write in writes) > 50
    texts = Counter(write.text for write in writes if write.text is not None)
    assert sum(count > 1 for count in texts.values()) > 50
    assert 8 <= sum(write.poison for write in writes) < 20
    sizes = [len(call.writes) for call in calls]
    assert (min(sizes), max(sizes) > 100) == (1, True)


def test_equal_texts_are_of_one_id() -> None:
    """A text that is repeated is so by its own id: two ids never share a text."""
    writers = {(write.text, write.key) for call in plan(1, 5000) for write in call.writes if write.text}
    assert len(writers) == len({text for text, _ in writers})
