"""`embedq reconcile` in tests: a source and what is stored of it, and what the command makes of the two."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from embedq.cli import main
from embedq_worker.engine.work import content_hash
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection

QUERY = ("--query", "SELECT sku AS id, name AS text, about AS metadata FROM product")
OUTBOX = "SELECT id, version, text, metadata, is_bulk, source FROM embedq.outbox ORDER BY id, version"
NONE = dict.fromkeys(
    ("missing", "stale", "other_metadata", "orphaned", "kept", "on_its_way", "dead", "unfit", "ahead"), 0
)
METADATA = '{"lang": "en"}'
"""Of every product."""


def reconcile(
    command_line: CliRunner,
    *arguments: str,
    source: tuple[str, ...] = QUERY,
    code: int = 0,
    answer: str | None = None,
) -> Result:
    """Run the command on ``docs`` and hold its exit code."""
    result = command_line.invoke(main, ["reconcile", "docs", *source, *arguments], input=answer)
    assert result.exit_code == code, result.output
    return result


def found(result: Result) -> dict[str, int]:
    """What it counted."""
    said = json.loads(result.stdout)
    return {name: said[name] for name in ("wanted", "current", *NONE, "enqueued")}


def put(connection: Connection, **products: str | None) -> None:
    """Rows of the source, in no order."""
    for sku, name in reversed(products.items()):
        connection.execute("INSERT INTO product VALUES (%s, %s, %s)", (sku, name, METADATA))


def store(
    connection: Connection,
    collection: Collection,
    item_id: str,
    text: str | None,
    version: int = 5,
    metadata: str = METADATA,
) -> None:
    """What the writer would have stored."""
    deleted, chunks = text is None, 0 if text is None else 1
    connection.execute(
        "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks, deleted_at)"
        " VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)",
        (collection.id, item_id, version, content_hash(text), chunks, deleted),
    )
    if text is not None:
        add_row(connection, item_id, text, metadata)


def add_row(connection: Connection, item_id: str, text: str, metadata: str = METADATA) -> None:
    """A row past the ledger."""
    connection.execute(
        "INSERT INTO docs (id, content, metadata, embedding, version) VALUES (%s, %s, %s, '[1,2,3]', 5)",
        (item_id, text, metadata),
    )


def bury(connection: Connection, item_id: str, text: str, version: int) -> None:
    """A dead letter with its text."""
    connection.execute(
        "WITH buried AS (INSERT INTO embedq.dead_letter (collection, item_id, version, class, code, attempts)"
        " VALUES ('docs', %s, %s, 'text', 'too_long', 1) RETURNING number)"
        " INSERT INTO embedq.dead_letter_text SELECT number, %s FROM buried",
        (item_id, version, json.dumps({"id": item_id, "text": text, "version": version})),
    )
