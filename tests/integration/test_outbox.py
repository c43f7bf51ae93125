"""The outbox from end to end: what is enqueued in SQL arrives, whatever is killed or emptied meanwhile."""

from __future__ import annotations

from pathlib import Path

import psycopg

from embedq.testing import faults
from tests.support.forked import ForkedWorkers
from tests.support.killer import MARKER
from tests.support.stack import Stack, wait_until

KILLER = "tests.support.killer:when_taken_in"


def enqueue(stack: Stack, count: int, text: str = "text", first: int = 1) -> None:
    """Items in one transaction, by SQL alone."""
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(
            "SELECT embedq.enqueue('docs', number::text, %s || ' ' || number) "
            "FROM generate_series(%s::int, %s) AS number",
            [text, first, first + count - 1],
        )


def waiting(stack: Stack) -> int:
    """Rows of the outbox."""
    return int(stack.sql("SELECT count(*) FROM embedq.outbox")[0][0])


def wait_until_settled(stack: Stack, timeout: float = 40) -> None:
    """Wait until the outbox is empty."""
    wait_until(lambda: waiting(stack) == 0, timeout, lambda: f"{waiting(stack)} rows are left")


def test_items_arrive_and_leave_the_outbox(stack: Stack) -> None:
    """By a worker that serves nothing, too; dead ones, deletes, several versions of one id, and a stop."""
    stack.create("docs")
    with stack.worker("--lanes", "query"), stack.worker("--collections", "docs", "--lanes", "live,bulk"):
        enqueue(stack, 300)
        wait_until_settled(stack)
        assert len(stack.stored("docs")) == 300
        stack.api.inject(faults.BadText(), marker="refused")
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            for text in ("first", "second", "third"):
                connection.execute("SELECT embedq.enqueue('docs', '1', %s)", [text])
            connection.execute("SELECT embedq.enqueue_delete('docs', '2')")
            connection.execute("SELECT embedq.enqueue('docs', '3', 'this is refused')")
            connection.execute("SELECT embedq.enqueue('docs', '4', 'text 4', lane => 'bulk')")
            connection.execute(
                "INSERT INTO embedq.outbox (collection_id, id, version, text) SELECT id, '5', 1, ' ' "
                "FROM embedq.collection"
            )
        wait_until_settled(stack)
        stored = stack.stored("docs")
        assert (stored["1"], stored["3"]) == ("third", "text 3")
        assert "2" not in stored
        assert stack.sql("SELECT item_id, class FROM embedq.dead_letter ORDER BY item_id") == [
            ("3", "text"),
            ("5", "text"),
        ]
    assert stack.pending() == 0


def test_an_emptied_redis_costs_nothing(stack: Stack) -> None:
    """With messages queued, in hand and unsent, and a worker killed: right within a minute, with no step."""
    stack.create("docs")
    stack.configure("[worker]\nlease = 2.0\nmessage_lease = 2.0\nin_hand = 1\noutbox_queue = 2\n")
    stack.api.configure(latency=0.2)
    with stack.worker() as first, stack.worker() as second:
        enqueue(stack, 3_000)
        wait_until(lambda: len(stack.stored("docs")) > 0, 20)
        assert waiting(stack) > 0
        stack.broker.flushall()
        first.kill()
        enqueue(stack, 500, "newer", first=100)
        wait_until_settled(stack, 55)
        said = second.output
    stored = stack.stored("docs")
    assert len(stored) == 3_000
    assert all(stored[str(number)] == f"newer {number}" for number in range(100, 600))
    assert "event=redis_emptied" in said
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(0,)]


def test_what_kills_its_workers_leaves_the_outbox(stack: Stack, tmp_path: Path) -> None:
    """With its letter, which keeps a whole message: else it would be sent again for ever."""
    stack.create("docs")
    stack.configure("[worker]\nmessage_lease = 1.0\nlease = 1.0\n")
    enqueue(stack, 1, MARKER)
    with ForkedWorkers(stack.environment, 2, changes=[KILLER], log=tmp_path / "log") as crew:
        wait_until(lambda: bool(crew.deaths), 20)
        enqueue(stack, 20, first=2)
        wait_until_settled(stack, 30)
    assert stack.sql("SELECT class, item_id FROM embedq.dead_letter") == [("killer", None)]
    assert len(stack.stored("docs")) == 20
