"""The main job, end to end: texts in, vectors in Postgres. Real servers, real worker processes, real HTTP."""

from __future__ import annotations

import pytest

from embedq.testing import vector_of
from embedq.testing.faults import ShuffledOrder
from tests.support.stack import DIMENSIONS, Stack, wait_until


def texts(count: int, start: int = 0) -> list[dict[str, str]]:
    """Items with different texts."""
    return [{"id": str(number), "text": f"text number {number}"} for number in range(start, start + count)]


def test_texts_become_rows(stack: Stack) -> None:
    """Many messages, two lanes: every text is stored once, with its own vector."""
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        assert producer.enqueue_many("docs", texts(1000)) == 1000
        producer.enqueue_many("docs", texts(300, start=1000), lane="bulk")
        producer.enqueue("docs", id="one", text="a single text", metadata={"lang": "en"})
        stack.wait_until_done()
    stored = stack.stored("docs")
    assert stored == {**{item["id"]: item["text"] for item in texts(1300)}, "one": "a single text"}
    assert stack.sql("SELECT metadata FROM docs WHERE id = 'one'") == [({"lang": "en"},)]
    assert stack.api.stats().billed_again == 0


def test_single_item_messages_share_requests(stack: Stack) -> None:
    """A thousand jobs of one item take far fewer calls."""
    stack.create("docs")
    stack.api.configure(latency=0.05)
    with stack.producer() as producer:
        for item in texts(1000):
            producer.enqueue("docs", id=item["id"], text=item["text"])
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 1000
    assert stack.api.stats().calls <= 60


def test_answers_are_matched_by_index(stack: Stack) -> None:
    """The API may answer in any order."""
    stack.create("docs")
    stack.api.inject(ShuffledOrder())
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", texts(500))
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 500


def test_equal_texts_cost_one_call(stack: Stack) -> None:
    """Within a process, however many ids have them."""
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": str(number), "text": "the same"} for number in range(200)])
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 200
    assert stack.api.stats().texts == 1


def test_a_newer_version_replaces_an_older_one(stack: Stack) -> None:
    """Whatever order they arrive in."""
    stack.create("docs", "--versions", "given")
    with stack.worker(), stack.producer() as producer:
        for version in (3, 1, 2):
            producer.enqueue("docs", id="1", text=f"version {version}", version=version)
            stack.wait_until_done()
        producer.enqueue_many(
            "docs", [{"id": "2", "text": f"v{version}", "version": version} for version in (5, 9, 7)]
        )
        stack.wait_until_done()
    assert stack.stored("docs") == {"1": "version 3", "2": "v9"}


def test_a_delete_stays_deleted(stack: Stack) -> None:
    """An older message does not bring an id back; a newer one does."""
    stack.create("docs", "--versions", "given")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text="first", version=1)
        stack.wait_until_done()
        producer.delete("docs", ["1", "unknown"], version=5)
        stack.wait_until_done()
        assert stack.stored("docs") == {}
        producer.enqueue("docs", id="1", text="late", version=4)
        stack.wait_until_done()
        assert stack.stored("docs") == {}
        producer.enqueue("docs", id="1", text="back", version=6)
        stack.wait_until_done()
    assert stack.stored("docs") == {"1": "back"}


def test_unchanged_content_costs_nothing(stack: Stack) -> None:
    """No call and no vector write; the version and the metadata move."""
    stack.create("docs", "--versions", "given")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text="stays", version=1)
        stack.wait_until_done()
        producer.enqueue("docs", id="1", text="stays", version=2, metadata={"seen": True})
        stack.wait_until_done()
    assert stack.api.stats().calls == 1
    assert stack.sql("SELECT version, metadata FROM docs") == [(2, {"seen": True})]
    assert stack.sql("SELECT version FROM embedq.item") == [(2,)]


def test_a_plain_celery_client(stack: Stack) -> None:
    """Any Celery application can enqueue: it needs the task's name, the queue's and the contract."""
    stack.create("docs")
    with stack.client() as client, stack.worker():
        job = {
            "v": 1,
            "collection": "docs",
            "source": "shop",
            "items": [{"id": "1", "text": "from a stranger"}],
        }
        client.send_task("embedq.embed", kwargs={"job": job}, queue="embedq.docs", ignore_result=True)
        wait_until(lambda: stack.stored("docs") == {"1": "from a stranger"}, 20)
        stack.wait_until_done()


def test_a_query_is_answered(stack: Stack) -> None:
    """``embed_query`` has the text's vector, without a row."""
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        vector = producer.embed_query("docs", "how do leases lapse?")
        assert vector == vector_of("how do leases lapse?", DIMENSIONS).tolist()
        stack.wait_until_done()
    assert stack.stored("docs") == {}


def test_collections_come_and_go_while_the_worker_runs(stack: Stack) -> None:
    """A new one is served within seconds, a dropped one let go."""
    with stack.worker() as worker, stack.producer() as producer:
        stack.create("late")
        producer.enqueue("late", id="1", text="a text")
        wait_until(lambda: stack.stored("late") == {"1": "a text"}, 20)
        stack.wait_until_done()
        stack.command("collection", "drop", "late", "--yes")
        wait_until(lambda: "Canceling queue embedq.late" in worker.output, 20)


def test_limits_hold_over_processes(stack: Stack) -> None:
    """With a limit of 8 and four processes the API never sees more than 8 calls of the model."""
    stack.configure('[models."text-embedding-3-small"]\nmax_concurrency = 8\nmax_inputs = 16\n')
    stack.create("docs")
    stack.api.configure(latency=0.05)
    with stack.producer() as producer:
        producer.enqueue_many("docs", texts(8000))
    with stack.worker(processes=4):
        stack.wait_until_done(50)
    assert len(stack.stored("docs")) == 8000
    assert stack.api.stats().max_in_flight == 8


@pytest.mark.parametrize("model", ["voyage-2", "text-multilingual-embedding-002"])
def test_other_families(stack: Stack, model: str) -> None:
    """Requests are shaped by the model's family: a long Voyage text goes alone."""
    dimensions = {"voyage-2": 1024, "text-multilingual-embedding-002": 768}[model]
    stack.create("docs", model=model, dimensions=dimensions)
    stack.api.configure(dimensions=dimensions, max_characters_in_array=800 if model == "voyage-2" else None)
    long = {"id": "long", "text": "long " * 300}
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [*texts(100), long])
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 101


def test_halfvec(stack: Stack) -> None:
    """Half precision where it was asked for."""
    stack.create("docs", "--type", "halfvec")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text="half")
        stack.wait_until_done()
    (row,) = stack.sql("SELECT embedding::vector::real[] FROM docs")
    expected = vector_of("half", DIMENSIONS)
    assert max(abs(a - b) for a, b in zip(row[0], expected, strict=True)) < 1e-3
