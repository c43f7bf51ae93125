"""Repairs on their way into the outbox."""

from __future__ import annotations

from collections.abc import Sequence

from embedq_sql import statement
from embedq_worker.errors import CollectionBusy
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.reconcile.differences import Repair


class Repairs:
    """Enqueues repairs of one collection, over a connection that is not reading."""

    def __init__(self, connection: Connection, collection: Collection) -> None:
        self._connection = connection
        self._collection = collection
        self._id = {"collection_id": collection.id}

    def claim(self) -> None:
        """Let no other repair the collection while this connection is open.

        Raises ``CollectionBusy`` and ``StoreError``.
        """
        name = self._collection.name
        with store_errors(f"collection {name!r} was not reconciled"):
            claimed = self._connection.execute(statement("lock_reconciling"), self._id).fetchone()
        if claimed != (True,):
            raise CollectionBusy(f"collection {name!r} is being reconciled by somebody else; wait for it")

    def enqueue(self, repairs: Sequence[Repair]) -> None:
        """Enqueue all of them or none. Raises ``StoreError``."""
        hollow = [(each.id, each.forgets) for each in repairs if each.forgets is not None]
        with store_errors("repairs were not enqueued"), self._connection.transaction():
            if hollow:
                ids, versions = map(list, zip(*hollow, strict=True))
                self._connection.execute(
                    statement("forget_texts"), {**self._id, "ids": ids, "versions": versions}
                )
            columns = {
                "ids": [each.id for each in repairs],
                "versions": [each.version for each in repairs],
                "texts": [each.text for each in repairs],
                "metadata": [each.metadata for each in repairs],
            }
            self._connection.execute(statement("enqueue_repairs"), {**self._id, **columns})
