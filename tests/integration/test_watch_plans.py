"""What a change of a watched table costs its writer: how it is planned."""

from __future__ import annotations

from typing import LiteralString

from psycopg.errors import Diagnostic

from embedq_worker.store.postgres.connections import Connection

OTHER: LiteralString = "UPDATE product SET name = name || '+' WHERE sku = 'a'"
CHANGES: tuple[LiteralString, ...] = (
    OTHER,
    "UPDATE product SET name = name || '+'",
    "UPDATE product SET price = price + 1",
    "DELETE FROM product WHERE sku = 'none'",
)


def test_a_kept_plan_serves_every_change(watched: Connection) -> None:
    """A connection's statements of one row and of several are planned a few times and never again."""
    planned: list[str | None] = []

    def note(notice: Diagnostic) -> None:
        planned.append(notice.message_primary)

    for _ in range(10):
        for each in CHANGES:
            watched.execute(each, prepare=True)
    watched.execute("SET log_planner_stats = on; SET client_min_messages = log")
    watched.add_notice_handler(note)
    watched.execute("SELECT count(*) FROM product", prepare=False)
    assert planned == ["PLANNER STATISTICS"]
    for _ in range(10):
        for each in CHANGES:
            watched.execute(each, prepare=True)
    assert len(planned) < 10  # now and then what another session did takes a plan away


def test_kept_plans_use_the_indexes(watched: Connection) -> None:
    """A connection's plan is from when the outbox was empty; a backlog is not read through for an update."""
    sequential = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname IN ('outbox', 'item')"
    watched.execute("VACUUM ANALYZE embedq.outbox, embedq.item")
    for _ in range(10):  # after five a plan is kept
        watched.execute(OTHER)
    watched.execute(
        "INSERT INTO embedq.outbox (collection_id, id, version, text) "
        "SELECT collection.id, n::text, n, 'waits' FROM embedq.collection, generate_series(1, 5000) AS n"
    )
    with watched.transaction():
        before = watched.execute(sequential).fetchall()
        watched.execute(OTHER)
        assert watched.execute(sequential).fetchall() == before
