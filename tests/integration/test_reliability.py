"""What ``make bench-reliability`` measures, small: kills, stops, versions and poison, on real workers."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.bench.reliability import kills, poison, terms, versions
from tests.support.stack import Stack, wait_until

MODEL = "text-embedding-3-small"
LEASE = 1.0


def configure(stack: Stack, max_inputs: int = 64) -> None:
    """Leases as short as they can be."""
    stack.configure(
        f'[models."{MODEL}"]\nmax_inputs = {max_inputs}\n'
        f"[worker]\nmessage_lease = {LEASE}\nlease = {LEASE}\ndrain_time = {terms.DRAIN_TIME}\n"
    )


def test_nothing_is_lost_by_kills(stack: Stack, tmp_path: Path) -> None:
    """Ten of them at random moments, through the transport alone."""
    configure(stack)
    stack.create("docs")
    toll = kills.Field(stack.broker, stack.environment, tmp_path).endure(
        10, kills.NOTE_ONLY, workers=2, patience=30
    )
    assert (toll.kills, toll.other_ends) == (10, 0)
    assert toll.sent > 500
    assert (toll.lost, toll.waiting) == (0, 0)
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(0,)]


def test_nothing_is_lost_or_billed_twice_by_stops(stack: Stack) -> None:
    """Six SIGTERMs at random moments under load; each worker ends in time and in order."""
    configure(stack, max_inputs=16)
    stack.create("docs")
    stack.api.configure(latency=terms.LATENCY)
    with (
        stack.producer() as producer,
        terms.Backlog(producer, "docs") as backlog,
        ThreadPoolExecutor(3) as slots,
    ):
        stops = list(slots.map(lambda seed: terms.stop_at_random(stack.environment, seed), range(6)))
    stack.api.configure(latency=0)
    with stack.worker():
        stack.wait_until_done()
    assert [stop.code for stop in stops] == [0] * 6
    assert max(stop.seconds for stop in stops) < terms.DRAIN_TIME + terms.ALLOWED
    assert len(stack.stored("docs")) == backlog.sent
    stats = stack.api.stats()
    assert (stats.billed_again, stats.statuses) == (0, {200: stats.calls})  # none was cut off


def test_no_row_is_stale(stack: Stack) -> None:
    """Versions in any order, many twice, while a worker is stopped for twice its lease."""
    configure(stack)
    writes = versions.shuffled(200, 20)
    stack.create("docs", "--versions", "given")
    stack.api.configure(latency=0.05)
    with stack.worker(processes=2) as worker, stack.producer() as producer:
        producer.enqueue_many("docs", (write.item() for write in writes))
        stack.api.wait_for(calls=2)
        with versions.Stopper(psutil.Process(worker.pid).children, 2 * LEASE):
            wait_until(lambda: stack.pending() == 0, 40)
        stack.wait_until_done(40)
    assert stack.stored("docs") == {
        write.id: write.text for write in versions.expected(writes).values() if write.text is not None
    }


def test_only_killers_die(stack: Stack, tmp_path: Path) -> None:
    """Two among a hundred, all in hand at once; workers are replaced as they die."""
    configure(stack)
    stack.create("docs")
    mixed = poison.mixture(100, 2)
    with stack.producer() as producer:
        for item in mixed.items:
            producer.enqueue("docs", id=item["id"], text=item["text"])
    with poison.workers(
        stack.environment, tmp_path / "log", poison.CHANGES["when embedded"], count=2
    ) as crew:
        stack.wait_until_done(50)
        assert set(crew.deaths) == {-signal.SIGKILL}
    assert set(stack.stored("docs")) == mixed.innocent
    letters = stack.sql(
        "SELECT class, code, payload FROM embedq.dead_letter JOIN embedq.dead_letter_text USING (number)"
    )
    assert {(kind, code) for kind, code, _ in letters} == {("killer", "killed_its_worker")}
    assert sorted(poison.killer_of(payload) for *_, payload in letters) == sorted(mixed.killers)
