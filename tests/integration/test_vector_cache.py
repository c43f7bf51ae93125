"""The cache of vectors over real workers: equal texts cost one call in the whole fleet."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg

from embedq.testing.faults import BadText
from tests.support.stack import MODEL, Stack, wait_until
from tests.support.workers import Worker

OTHER_MODEL = "text-embedding-3-large"


def on(stack: Stack, *, days: int = 30, lease: float = 2.0, model: str = "") -> None:
    """Switch the cache on; claims outlive their process by ``lease`` seconds.

    ``model``: settings of the model, as TOML.
    """
    stack.configure(f'[worker]\nvector_cache_days = {days}\nlease = {lease}\n[models."{MODEL}"]\n{model}\n')


def items(count: int, prefix: str) -> list[dict[str, str]]:
    """Ids that differ by ``prefix``, and texts that do not."""
    return [{"id": f"{prefix}{number}", "text": f"text number {number}"} for number in range(count)]


def two_workers(stack: Stack, started: ExitStack) -> tuple[Worker, Worker]:
    """A worker process for each of two collections of one model."""
    for name in ("one", "two"):
        stack.create(name)
    one, two = (stack.worker("--collections", name) for name in ("one", "two"))
    return started.enter_context(one), started.enter_context(two)


def cached(stack: Stack) -> int:
    """Vectors in the cache; no claim may be left beside them."""
    [(rows, vectors)] = stack.sql("SELECT count(*), count(vector) FROM embedq.vector_cache")
    assert rows == vectors
    return int(vectors)


def drop_tables(stack: Stack) -> None:
    """As in a database that was not migrated."""
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("DROP TABLE embedq.vector_cache, embedq.vector_claimant")


def test_equal_texts_of_two_collections_cost_one_call(stack: Stack) -> None:
    """The second collection has its vectors from the cache; their tokens were paid once."""
    on(stack)
    for name in ("one", "two"):
        stack.create(name)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("one", items(300, "a"))
        stack.wait_until_done()
        wait_until(lambda: cached(stack) == 300, 10)
        producer.enqueue_many("two", items(300, "b"))
        stack.wait_until_done()
    assert stack.api.stats().texts == 300
    assert len(stack.stored("one")) == len(stack.stored("two")) == 300
    [(first, again)] = stack.sql(
        "SELECT sum(tokens) FILTER (WHERE id ^@ 'a'), sum(tokens) FILTER (WHERE id ^@ 'b') FROM embedq.item"
    )
    assert (first > 0, again) == (True, 0)
    assert stack.sql("SELECT count(*) FROM embedq.vector_claimant") == [(0,)], "it stopped without leaving"


def test_two_processes_share_calls_in_flight(stack: Stack) -> None:
    """What one is getting, the other waits for."""
    on(stack)
    stack.api.configure(latency=0.3)
    with ExitStack() as started, stack.producer() as producer:
        two_workers(stack, started)
        producer.enqueue_many("one", items(500, "a"))
        producer.enqueue_many("two", reversed(items(500, "b")))
        stack.wait_until_done()
    assert len(stack.stored("one")) == len(stack.stored("two")) == 500
    assert (stack.api.stats().texts, stack.api.stats().billed_again) == (500, 0)


def test_a_claim_holds_for_as_long_as_the_call(stack: Stack) -> None:
    """A call that takes more than two lives of a claim is waited for by others."""
    on(stack, lease=1.0)
    stack.api.configure(latency=2.5)
    with ExitStack() as started, stack.producer() as producer:
        two_workers(stack, started)
        producer.enqueue_many("one", items(20, "a"))
        stack.api.wait_for(in_flight=1)
        producer.enqueue_many("two", items(20, "b"))
        stack.wait_until_done()
    assert len(stack.stored("two")) == 20
    assert stack.api.stats().texts == 20


def test_the_claims_of_a_killed_process_lapse(stack: Stack) -> None:
    """Another process makes the calls, not before and not never."""
    on(stack, lease=2.0)
    stack.api.configure(latency=30.0)
    with ExitStack() as started, stack.producer() as producer:
        one, _ = two_workers(stack, started)
        producer.enqueue_many("one", items(20, "a"))
        stack.api.wait_for(in_flight=1)
        producer.enqueue_many("two", items(20, "b"))
        wait_until(lambda: stack.sql("SELECT count(*) FROM embedq.vector_claimant") == [(2,)], 10)
        stack.api.configure(latency=0.0)
        assert stack.api.stats().calls == 1
        one.kill()
        wait_until(lambda: len(stack.stored("two")) == 20, 10)
    assert stack.api.stats().texts == 40


def test_a_process_that_stops_leaves_its_claims(stack: Stack) -> None:
    """What it has not called for is called for by others at once, not when its claims would lapse."""
    on(stack, lease=3600.0, model="max_concurrency = 1\nmax_inputs = 10")
    stack.api.configure(latency=1.0)
    with ExitStack() as started, stack.producer() as producer:
        one, _ = two_workers(stack, started)
        producer.enqueue_many("one", items(100, "a"))
        stack.api.wait_for(in_flight=1)
        producer.enqueue_many("two", items(100, "b"))
        assert one.stop() == 0
        stack.api.configure(latency=0.0)
        wait_until(lambda: len(stack.stored("two")) == 100, 10)
    assert stack.api.stats().billed_again == 0


def test_a_bad_text_gives_its_claim_up(stack: Stack) -> None:
    """Each process hears it from the service, and both items are dead letters."""
    on(stack, lease=3600.0)
    stack.api.inject(BadText(), marker="poison")
    with ExitStack() as started, stack.producer() as producer:
        two_workers(stack, started)
        for name in ("one", "two"):
            producer.enqueue_many(name, [*items(5, name), {"id": f"bad {name}", "text": "poison"}])
        stack.wait_until_done()
        wait_until(lambda: cached(stack) == 5, 10)
    assert stack.sql("SELECT item_id, class FROM embedq.dead_letter ORDER BY item_id") == [
        ("bad one", "text"),
        ("bad two", "text"),
    ]
    assert len(stack.stored("one")) == len(stack.stored("two")) == 5


def test_other_vectors_are_never_shared(stack: Stack) -> None:
    """Of another size, or another model's."""
    on(stack)
    stack.create("small")
    stack.create("smaller", dimensions=32)
    stack.create("other", model=OTHER_MODEL)
    with stack.worker(), stack.producer() as producer:
        for name in ("small", "smaller", "other"):
            producer.enqueue(name, id="1", text="the same")
        stack.wait_until_done()
    assert {name: each.texts for name, each in stack.api.stats().models.items()} == {MODEL: 2, OTHER_MODEL: 1}
    assert all(stack.stored(name) == {"1": "the same"} for name in ("small", "smaller", "other"))


def test_a_dropped_collection_gives_its_claims_up(stack: Stack) -> None:
    """Those of its texts that another collection wants too are still asked for, once."""
    on(stack, lease=3600.0, model="max_concurrency = 1")
    for name in ("one", "two"):
        stack.create(name)
    stack.api.configure(latency=3.0)
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue("one", id="first", text="holds the only slot")
        stack.api.wait_for(in_flight=1)
        producer.enqueue_many("one", [*items(5, "a"), {"id": "alone", "text": "wanted by this one alone"}])
        producer.enqueue_many("two", items(5, "b"))
        wait_until(lambda: stack.sql("SELECT count(*) FROM embedq.vector_cache") == [(7,)], 10)
        stack.command("collection", "drop", "one", "--yes", "--purge")
        wait_until(lambda: "Canceling queue embedq.one" in worker.output, 10)
        stack.api.configure(latency=0.0)
        stack.wait_until_done()
        wait_until(lambda: cached(stack) == 6, 10)
    assert len(stack.stored("two")) == 5
    assert stack.api.stats().texts == 6


def test_unused_vectors_are_forgotten(stack: Stack) -> None:
    """A worker forgets when it starts, and then every hour."""
    on(stack, days=7)
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", items(10, "a"))
        stack.wait_until_done()
        wait_until(lambda: cached(stack) == 10, 10)
    stack.sql("UPDATE embedq.vector_cache SET used_at = now() - interval '9 days' RETURNING 1")
    with stack.worker():
        wait_until(lambda: cached(stack) == 0, 10)


def test_off_it_costs_no_statement(stack: Stack) -> None:
    """The default: the tables are not even looked at, so that they may be missing."""
    stack.create("docs")
    drop_tables(stack)
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue_many("docs", items(10, "a"))
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 10
    assert "vector" not in worker.output
