"""What Postgres refuses dies alone: of writes, of touches, of dead letters."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import psycopg
import pytest
from psycopg import errors

from embedq_worker.cancelling import cancel_all
from embedq_worker.engine.burial_queue import BurialQueue
from embedq_worker.errors import CollectionGone, DatabaseAway, DatabaseBusy, RightsMissing, RowRefused
from embedq_worker.settings import Settings
from embedq_worker.store.collections import create_collection
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.postgres.sqlstate import understood
from embedq_worker.store.rows import Part, Row
from embedq_worker.store.writer import Writer
from tests.support.stack import Stack

CANARY = "canary-sentence-that-no-log-may-hold"


def test_one_refused_touch(stack: Stack) -> None:
    """A CHECK on the metadata of one unchanged text: one dead letter of 64."""
    stack.create("docs")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("""ALTER TABLE docs ADD CHECK (metadata <> '{"bad": true}')""")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": str(n), "text": f"t{n}"} for n in range(64)])
        stack.wait_until_done()
        changed = [
            {"id": str(n), "text": f"t{n}", "metadata": {"bad": True} if n == 7 else {"n": n}}
            for n in range(64)
        ]
        producer.enqueue_many("docs", changed)
        stack.wait_until_done()
    assert stack.sql("SELECT item_id, class, code FROM embedq.dead_letter") == [("7", "row", "23514")]
    assert stack.sql("SELECT count(*) FROM docs WHERE metadata ? 'n'") == [(63,)]


def test_a_trigger_refuses_one_text(stack: Stack) -> None:
    """Somebody's RAISE, whose SQLSTATE is of no class of Postgres': the rows beside it are stored."""
    stack.create("docs")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.content = 'bad' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many(
            "docs", [{"id": str(n), "text": "bad" if n == 3 else f"t{n}"} for n in range(8)]
        )
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 7
    assert stack.sql("SELECT item_id, class, code FROM embedq.dead_letter") == [("3", "row", "P0001")]


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (errors.ConnectionFailure, DatabaseAway),
        (errors.SerializationFailure, DatabaseBusy),
        (errors.DiskFull, DatabaseAway),
        (errors.LockNotAvailable, DatabaseBusy),
        (errors.AdminShutdown, DatabaseAway),
        (errors.IoError, DatabaseAway),
        (errors.ReadOnlySqlTransaction, DatabaseAway),
        (errors.InternalError_, DatabaseAway),
        (errors.InsufficientPrivilege, RightsMissing),
        (psycopg.OperationalError, DatabaseAway),
        (psycopg.InterfaceError, DatabaseAway),
        (errors.UndefinedTable, CollectionGone),
        (errors.InvalidSchemaName, CollectionGone),
        (errors.CheckViolation, RowRefused),
        (errors.StringDataRightTruncation, RowRefused),
        (errors.ProgramLimitExceeded, RowRefused),
        (errors.RaiseException, RowRefused),
        (psycopg.DataError, RowRefused),
    ],
)
def test_what_an_error_means(error: type[psycopg.Error], meaning: type[Exception]) -> None:
    """By its SQLSTATE, without one by its class."""
    assert type(understood(error(CANARY))) is meaning


async def test_a_refusal_does_not_quote_the_row(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Postgres' DETAIL holds the failing row; logged with its traceback, the refusal does not."""
    model = Settings().catalogue.usable("text-embedding-3-small")
    with psycopg.connect(database_url, autocommit=True) as connection:
        collection = create_collection(connection, name="docs", model=model, dimensions=8)
        connection.execute("ALTER TABLE docs ADD CHECK (length(content) < 10)")
    database = Database(database_url, connections=1)
    await database.open()
    row = Row("1", 1, b"h", (Part(CANARY, np.ones(8, np.float32)),))
    try:
        await Writer(database, collection).write([row])
    except RowRefused:
        logging.getLogger("embedq_worker").exception("refused")
    finally:
        await database.close()
    assert "SQLSTATE 23514" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize("source", ["shop\x00", "shop\ud800", "s" * 5000])
async def test_a_letter_that_cannot_be_stored_as_it_is(database_url: str, source: str) -> None:
    """It is stored in a plainer form; the letters around it as they are, and all are settled."""
    database = Database(database_url, connections=1)
    await database.open()
    queue = BurialQueue(database)
    settled: list[str] = []
    letters = {
        name: DeadLetter(
            collection="docs",
            lane="live",
            cause="text",
            code=name * 100,
            item_id=name,
            source=source if name == "bad" else "café",
            payload=f"\x00\ud800{source}" if name == "bad" else "{}",
        )
        for name in ("one", "bad", "two")
    }
    for name, letter in letters.items():
        queue.add(letter, lambda name=name: settled.append(name))  # type: ignore[misc]  # a default
    running = asyncio.create_task(queue.run())
    try:
        async with asyncio.timeout(10):
            await queue.finish()
    finally:
        await cancel_all([running])
        await database.close()
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT item_id, source, payload, length(code) FROM embedq.dead_letter"
            " JOIN embedq.dead_letter_text USING (number) ORDER BY number"
        ).fetchall()
    assert settled == ["one", "bad", "two"]
    assert {row[3] for row in rows} == {200}
    by_name = {row[0]: row for row in rows}
    assert by_name["one"][1] == by_name["two"][1] == "café"
    assert by_name["bad"][1] == source.translate({0: "?", 0xD800: "?"})[:200]
    assert by_name["bad"][2].startswith("\\u0000\\ud800s")
