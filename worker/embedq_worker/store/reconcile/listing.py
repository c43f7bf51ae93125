"""A file's items, in a temporary table: there they are sorted, and read as any other source is."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from embedq.contract import Item
from embedq_sql import statement
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.reconcile.source import Source, listed

_json = msgspec.json.Encoder()


def list_items(connection: Connection, items: Iterable[Item]) -> Source:
    """Put items into the session's temporary table; of an id that comes twice the last one counts.

    Where no item has metadata, the source says nothing of them. Raises ``StoreError``, and what ``items``
    raises.
    """
    with store_errors("the file's items were not put beside the collection"), connection.transaction():
        connection.execute(statement("make_listed"))
        with connection.cursor().copy(statement("copy_listed").rstrip(";")) as copy:
            has_metadata = False
            for number, item in enumerate(items):
                metadata = None if item.metadata is None else _json.encode(item.metadata).decode()
                has_metadata = has_metadata or metadata is not None
                copy.write_row((number, item.id, item.text, metadata, item.version))
    return listed(has_metadata=has_metadata)
