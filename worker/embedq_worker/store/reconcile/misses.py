"""Changes that a watch has missed, until a comparison has found what became of them.

Of a collection at most one a minute is noted. So notes are old enough before a comparison is made of what
was missed, and of all that was under way then it sees the end: else something may have been missed beside a
note and not be seen.
"""

from __future__ import annotations

from datetime import datetime

from embedq_sql import statement
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection, store_errors


class Misses:
    """Of one collection; ``connection`` is one that is not reading. All raise ``StoreError``."""

    def __init__(self, connection: Connection, collection: Collection) -> None:
        self._connection = connection
        self._id = {"collection_id": collection.id}
        self._noted: list[datetime] = []
        self._transaction = ""

    def note(self) -> None:
        """What was missed until now; before the moment of the comparison."""
        with store_errors("what the watch missed was not read"):
            found = self._connection.execute(statement("settled_misses"), self._id).fetchone()
        self._noted, self._transaction = found or ([], "")

    def compare(self, reading: Connection) -> None:
        """Keep in mind only what the transaction of the comparison sees all of."""
        if not self._noted:
            return
        with store_errors("what the watch missed was not compared"):
            wanted = {"transaction": self._transaction}
            sees_all = reading.execute(statement("sees_all_before"), wanted).fetchone()
        if sees_all != (True,):
            self._noted = []

    def forget(self) -> bool:
        """What was compared is missed no longer; whether there was anything."""
        if not self._noted:
            return False
        with store_errors("the watch counts as behind all the same"):
            self._connection.execute(statement("forget_misses"), {**self._id, "missed": self._noted})
        return True
