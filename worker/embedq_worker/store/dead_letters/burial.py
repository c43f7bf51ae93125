"""Dead letters: items that cannot be embedded, with the reason, and their texts in a table of their own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from embedq_sql import statement
from embedq_worker.store.postgres.database import Connection, Database

_BURY = statement("bury")
_LONGEST = 200
"""Characters of a short field: some are what a stranger or a service wrote."""
_MOST_VERSION = 2**63 - 1


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Why something cannot be embedded.

    Only ``payload`` holds what it said: the item as JSON, the raw message, or the fill (ids alone). ``code``,
    ``parameter`` and ``source`` are cut after 200 characters when they are written.
    """

    collection: str | None
    lane: str | None
    cause: str
    """The class of the error: ``text``, ``row``, ``successor``, ``not_a_job`` or ``killer``."""
    code: str
    payload: str
    item_id: str | None = None
    version: int | None = None
    status: int | None = None
    parameter: str | None = None
    attempts: int = 0
    source: str | None = None
    outbox: tuple[tuple[str, int], ...] = ()
    """Ids and versions of the collection's items that came by the outbox: their rows go with the letter."""

    @property
    def reason(self) -> str:
        """Class and code, for what counts letters by them."""
        return f"{self.cause}/{_plain(self.code)}"


async def bury(database: Database, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters and their texts in one transaction.

    Raises ``DatabaseAway``, ``CollectionGone`` where embedq's own tables are missing, and ``RowRefused`` or
    what the driver raises for a letter that cannot be stored; nothing is written then.
    """
    async with database.connection() as connection, connection.transaction():
        await bury_in(connection, letters)


async def bury_in(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Likewise in a transaction of the caller, with rows of the outbox that the letters settle.

    Raises the driver's errors.
    """
    for letter in letters:
        await connection.execute(_BURY, _fields(letter))
    settled = [(letter.collection, *item) for letter in letters for item in letter.outbox]
    if settled:
        collections, ids, versions = map(list, zip(*settled, strict=True))
        wanted = {"collections": collections, "ids": ids, "versions": versions}
        await connection.execute(statement("settle_buried"), wanted, prepare=False)


def stripped(letter: DeadLetter) -> DeadLetter:
    """A letter as any database takes it.

    Short fields in printable ASCII, of other characters a question mark; in the payload NUL and lone
    surrogates become JSON's escapes.
    """
    payload = letter.payload.replace("\x00", "\\u0000")
    return msgspec.structs.replace(
        letter,
        collection=_plain(letter.collection),
        lane=_plain(letter.lane),
        code=_plain(letter.code),
        item_id=_plain(letter.item_id),
        parameter=_plain(letter.parameter),
        source=_plain(letter.source),
        version=letter.version and min(letter.version, _MOST_VERSION),
        payload=payload.encode(errors="backslashreplace").decode(),
    )


def _fields(letter: DeadLetter) -> dict[str, object]:
    fields = msgspec.structs.asdict(letter)
    del fields["outbox"]
    fields["class"] = fields.pop("cause")
    for name in ("code", "parameter", "source"):
        fields[name] = fields[name] and fields[name][:_LONGEST]
    return fields


def _plain(text: str | None) -> str | None:
    if text is None:
        return None
    return "".join(each if " " <= each <= "~" else "?" for each in text[:_LONGEST])
