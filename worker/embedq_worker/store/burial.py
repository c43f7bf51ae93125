"""Dead letters: items that cannot be embedded, with the reason, and their texts in a table of their own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from embedq_sql import statement
from embedq_worker.store.database import Database

_BURY = statement("bury")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Why something cannot be embedded.

    Only ``payload`` holds what it said: the item as JSON, or the raw message.
    """

    collection: str | None
    lane: str | None
    cause: str
    """The class of the error: ``text``, ``row`` or ``not_a_job``."""
    code: str
    payload: str
    item_id: str | None = None
    version: int | None = None
    status: int | None = None
    parameter: str | None = None
    attempts: int = 0
    source: str | None = None


async def bury(database: Database, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters and their texts in one transaction. Raises ``DatabaseAway``."""
    async with database.connection() as connection, connection.transaction():
        for letter in letters:
            fields = msgspec.structs.asdict(letter)
            fields["class"] = fields.pop("cause")
            await connection.execute(_BURY, fields)
