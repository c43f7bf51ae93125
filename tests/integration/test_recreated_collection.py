"""A collection that is dropped and created anew while its texts are being embedded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psycopg
import pytest

from embedq_worker.errors import CollectionGone
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Part, Row
from embedq_worker.store.writer import Writer
from tests.support.stack import Stack, wait_until

OTHER = "text-embedding-3-large"


def test_what_was_purged_in_hand_is_gone(stack: Stack) -> None:
    """No dead letter keeps its text, and no old vector reaches the new table, which is another model's."""
    stack.create("docs")
    stack.api.configure(latency=4.0)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text="of the old model")
        wait_until(lambda: stack.api.stats().calls == 1, 20)
        dropped = stack.command("collection", "drop", "docs", "--yes", "--purge")
        stack.create("docs", model=OTHER)
        assert "1 message deleted" in dropped
        assert stack.pending() == 0
    assert stack.pending() == 0  # the worker has given it back, to nowhere
    assert stack.stored("docs") == {}
    assert stack.sql("SELECT id FROM embedq.item") == []
    assert stack.sql("SELECT class, code FROM embedq.dead_letter") == []


def test_what_is_enqueued_at_once_is_stored(stack: Stack) -> None:
    """The worker still takes the new collection for the old one: it gives back what does not fit."""
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text="old")
        stack.wait_until_done()
        stack.command("collection", "drop", "docs", "--yes")
        stack.create("docs")
        producer.enqueue("docs", id="2", text="new")
        producer.delete("docs", ["3"])
        stack.wait_until_done()
    assert stack.stored("docs") == {"2": "new"}
    assert stack.sql("SELECT class, code FROM embedq.dead_letter") == []


def recreated(url: str) -> tuple[Collection, Collection]:
    """A collection that was dropped, and the one that has its name now."""
    models = Settings().catalogue
    with psycopg.connect(url, autocommit=True) as connection:
        old = create_collection(
            connection, name="docs", model=models.usable("text-embedding-3-small"), dimensions=8
        )
        drop_collection(connection, "docs")
        new = create_collection(connection, name="docs", model=models.usable(OTHER), dimensions=8)
    return old, new


@pytest.fixture
def row() -> Row:
    """A row of eight dimensions."""
    return Row("1", 1, b"h", (Part("text", np.ones(8, np.float32)),))


@pytest.mark.parametrize("name", ["write", "touch"])
async def test_a_writer_of_the_old_one_is_refused(database_url: str, row: Row, name: str) -> None:
    """To write as to touch; its connection serves the new one afterwards."""
    old, new = recreated(database_url)
    database = Database(database_url, connections=1)
    await database.open()
    try:
        batch: Sequence[Row] = [row]
        with pytest.raises(CollectionGone):
            await getattr(Writer(database, old), name)(batch)
        assert await Writer(database, new).write(batch) == set()
        assert await Writer(database, new).touch(batch) == {"1"}
    finally:
        await database.close()


async def test_a_table_that_was_dropped_is_gone(
    database_url: str, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    """And the connection is as good as before; the driver says nothing of what that takes."""
    _, new = recreated(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        drop_collection(connection, "docs")
    database = Database(database_url, connections=1)
    await database.open()
    try:
        for _ in range(2):
            with pytest.raises(CollectionGone):
                await Writer(database, new).write([row])
    finally:
        await database.close()
    assert caplog.messages == []
