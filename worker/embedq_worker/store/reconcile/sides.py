"""The two sides of a comparison, each streamed in the order of its ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from psycopg import IsolationLevel, sql

from embedq_sql import statement
from embedq_worker.errors import SourceError
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.reconcile.differences import Letter
from embedq_worker.store.reconcile.pairs import Held, Wanted
from embedq_worker.store.reconcile.source import Source, source_errors

_AT_ONCE = 100
"""Rows in the client's memory of each side: a text may have a megabyte."""


class _Payload(msgspec.Struct):
    """What a dead letter keeps of its item."""

    text: str | None = None


_payload = msgspec.json.Decoder(_Payload)
_decode = msgspec.json.Decoder().decode


class Sides:
    """Source and ledger as they stood at one moment. For use within ``at_one_moment``."""

    def __init__(self, connection: Connection, collection: Collection, source: Source) -> None:
        self._connection = connection
        self._collection = collection
        self._source = source
        self.compare_metadata = source.has_metadata and collection.is_managed
        """Whether both have metadata."""
        self._id = {"collection_id": collection.id}

    def wanted(self) -> Iterator[Wanted]:
        """The source's rows that have a text: null and blank mean that there is none.

        Raises ``SourceError`` and ``StoreError``.
        """
        with source_errors(), self._connection.cursor("embedq_source") as cursor:
            cursor.itersize = _AT_ONCE
            with self._names():
                cursor.execute(self._source.rows)
            for row in cursor:
                if row[0] is None:
                    raise SourceError("the source has a row without an id; let its id be never null")
                if row[1] and not row[1].isspace():
                    yield Wanted._make(row)

    def held(self) -> Iterator[Held]:
        """What ledger and table know. Raises ``StoreError``."""
        with store_errors("the ledger was not read"), self._connection.cursor("embedq_held") as cursor:
            cursor.itersize = _AT_ONCE
            asked = {**self._id, "wants_metadata": self.compare_metadata}
            for row in cursor.execute(self._held_statement(), asked):
                yield Held._make(row)

    def count(self) -> int:
        """The ids that the ledger knows. Raises ``StoreError``."""
        with store_errors("the ledger was not counted"):
            (count,) = self._connection.execute(statement("count_ledger"), self._id).fetchone() or (0,)
        return int(count)

    def on_their_way(self, ids: list[str]) -> set[str]:
        """Those of these ids that wait in the outbox. Raises ``StoreError``."""
        with store_errors("the outbox was not read"):
            found = self._connection.execute(statement("ids_in_outbox"), {**self._id, "ids": ids})
            return {str(item_id) for (item_id,) in found}

    def letters(self, ids: list[str]) -> dict[str, Letter]:
        """The newest dead letter of each of these ids that has one. Raises ``StoreError``."""
        wanted = {"collection": self._collection.name, "ids": ids}
        with store_errors("the dead letters were not read"):
            found = self._connection.execute(statement("newest_letters"), wanted).fetchall()
        return {item_id: Letter(version, _text(payload)) for item_id, version, payload in found}

    def other_metadata(self, wanted: Sequence[Wanted]) -> set[str]:
        """The ids of those whose rows have other metadata than the source. Raises ``StoreError``."""
        asked = {
            "ids": [each.id for each in wanted],
            "metadata": [_carried(each.metadata) for each in wanted],
        }
        other = sql.SQL(statement("other_metadata")).format(table=self._collection.table)
        with store_errors("the metadata were not compared"):
            return {str(item_id) for (item_id,) in self._connection.execute(other, asked)}

    @contextmanager
    def _names(self) -> Iterator[None]:
        """Within it names mean what they do in the source."""
        if not self._source.is_narrow:
            yield
            return
        before, _ = self._connection.execute(statement("narrow_names")).fetchone() or ("", "")
        yield
        self._connection.execute(statement("widen_names"), {"search_path": before})

    def _held_statement(self) -> sql.Composed:
        collection = self._collection
        if collection.is_managed:
            return sql.SQL(statement("held_by_id")).format(table=collection.table)
        return sql.SQL(statement("held_by_own_key")).format(
            table=collection.table,
            key_column=sql.Identifier(collection.key_column),
            key_type=sql.SQL(collection.key_type),  # Postgres has named it
            vectors=sql.Identifier(collection.vector_column),
        )


@contextmanager
def at_one_moment(connection: Connection) -> Iterator[None]:
    """A transaction that sees nothing of what happens meanwhile, and in which no query writes.

    Raises ``StoreError``.
    """
    connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
    with store_errors("nothing was compared"), connection.transaction():
        yield


def _carried(metadata: str | None) -> str:
    """As messages carry them: what these do not, such as each digit of a long fraction, is never stored, and
    would differ for ever. None of them is the same as nothing in them."""
    try:
        carried = None if metadata is None else _decode(metadata)
    except (msgspec.DecodeError, RecursionError):  # its item becomes a dead letter
        return metadata or "{}"
    return "{}" if carried is None else msgspec.json.encode(carried).decode()


def _text(payload: str | None) -> str | None:
    """Of a letter's item; None where it is no such item."""
    try:
        return None if payload is None else _payload.decode(payload).text
    except (msgspec.DecodeError, UnicodeError):
        return None
