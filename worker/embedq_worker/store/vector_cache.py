"""The cache of vectors: what was embedded once serves the same text again, in every collection.

A row is a vector, or the claim of the process that is getting it: an equal text costs one call in the whole
fleet. Claims live as long as their claimant is renewed. All functions raise ``DatabaseAway``, and
``RowRefused`` or ``CollectionGone`` where the cache cannot be used: rights that are missing, no such table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg import errors

from embedq_sql import statement
from embedq_worker.errors import RowRefused
from embedq_worker.store.postgres.database import Connection, Database

_CLAIM = statement("claim_vectors")
_MARK_USED = statement("mark_vectors_used")
_KEEP = statement("keep_vectors")
_GIVE_UP = statement("give_up_vectors")
_BEGIN = statement("begin_claimant")
_RENEW = statement("renew_claimant")
_END = statement("end_claimant")
_FORGET = statement("forget_unused_vectors")
_FORGET_CLAIMANTS = statement("forget_claimants")
_BYTES = np.dtype("<f4")


class Kind(NamedTuple):
    """What vectors must have in common for equal texts to have equal ones.

    ``parameters``: all that shapes them besides the model, as text.
    """

    model: str
    parameters: str


class Made(NamedTuple):
    """A vector, shape (dimensions,), of the text with this content hash, and the tokens that it cost."""

    key: bytes
    vector: NDArray[np.float32]
    tokens: int


class Found(NamedTuple):
    """What became of a question: vectors by content hash, and the hashes that are the asker's to get.

    Those in neither are being got by somebody else.
    """

    vectors: dict[bytes, NDArray[np.float32]]
    claimed: frozenset[bytes]


class _Answer(NamedTuple):
    content_hash: bytes
    vector: bytes | None
    is_stale: bool


async def claim(database: Database, kind: Kind, keys: Sequence[bytes], claimant: str) -> Found:
    """The vectors of these content hashes, or the right to get them, in the name of ``claimant``."""
    async with _connection(database) as connection:
        cursor = connection.cursor(binary=True)
        asked = {**kind._asdict(), "hashes": list(keys), "claimant": claimant}
        await cursor.execute(_CLAIM, asked)
        answers = [_Answer._make(row) for row in await cursor.fetchall()]
        if stale := [answer.content_hash for answer in answers if answer.is_stale]:
            await cursor.execute(_MARK_USED, {**kind._asdict(), "hashes": stale})
    vectors = {each.content_hash: _decoded(each.vector) for each in answers if each.vector is not None}
    return Found(vectors, frozenset(each.content_hash for each in answers if each.vector is None))


async def keep(database: Database, kind: Kind, made: Sequence[Made]) -> None:
    """Put vectors into the cache; their claims end."""
    values = {
        **kind._asdict(),
        "hashes": [each.key for each in made],
        "vectors": [each.vector.astype(_BYTES, copy=False).tobytes() for each in made],
        "tokens": [each.tokens for each in made],
    }
    async with _connection(database) as connection:
        await connection.execute(_KEEP, values)


async def give_up(database: Database, kind: Kind, keys: Sequence[bytes], claimant: str) -> None:
    """End claims without a vector; hashes that ``claimant`` has not claimed are left alone."""
    async with _connection(database) as connection:
        await connection.execute(_GIVE_UP, {**kind._asdict(), "hashes": list(keys), "claimant": claimant})


async def begin_claimant(database: Database, claimant: str, life: float) -> None:
    """Let ``claimant`` claim; what it claims lapses after ``life`` seconds unless it is renewed."""
    async with _connection(database) as connection:
        await connection.execute(_BEGIN, {"claimant": claimant, "life": life})


async def renew_claimant(database: Database, claimant: str, life: float) -> bool:
    """Keep its claims for another ``life`` seconds; whether it was in time."""
    async with _connection(database) as connection:
        cursor = await connection.execute(_RENEW, {"claimant": claimant, "life": life})
        return await cursor.fetchone() is not None


async def end_claimant(database: Database, claimant: str) -> None:
    """Let all its claims lapse now."""
    async with _connection(database) as connection:
        await connection.execute(_END, {"claimant": claimant})


async def forget_unused(database: Database, days: int) -> int:
    """Delete what was not used for ``days``, and claimants that are gone; returns how many vectors and claims
    it were. In small transactions."""
    forgotten = 0
    async with _connection(database) as connection:
        while count := (await connection.execute(_FORGET, {"days": days})).rowcount:
            forgotten += count
        await connection.execute(_FORGET_CLAIMANTS)
    return forgotten


def _decoded(vector: bytes) -> NDArray[np.float32]:
    return np.frombuffer(vector, _BYTES).astype(np.float32, copy=False)


@asynccontextmanager
async def _connection(database: Database) -> AsyncIterator[Connection]:
    """Rights that are missing here do not mean that the database is away: rows can be written without it."""
    async with database.connection() as connection:
        try:
            yield connection
        except errors.InsufficientPrivilege as error:
            raise RowRefused(error.sqlstate or "42501") from None
