"""Drift: how far a model's vectors of fixed texts are from its first ones, kept for the whole fleet.

A model is known by its id and the dimensions, not by its address: another service under the same name is what
is to be found. Functions of the engine raise ``StoreError``, as ``Database.connection`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import sqrt
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from psycopg.rows import dict_row

from embedq_sql import statement
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.postgres.database import Database

_BYTES = np.dtype("<f4")
Vector = NDArray[np.float32]
"""Shape (dimensions,)."""


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """The last check of a model that is in use, at one size of its vectors.

    ``distance``: the greatest cosine distance of all texts, 0 to 2. It and the times are None before the
    first check.
    """

    model: str
    dimensions: int
    distance: float | None
    checked_at: datetime | None
    drifts_since: datetime | None
    """Since when checks find more than ``drift_distance``; None: they do not."""
    first_at: datetime | None
    """When the vectors were made that others are compared with."""
    is_changed_here: bool
    """Whether the service's address, or what is sent along with each text, is other than for the first."""
    is_wanted: bool
    """Whether somebody has asked for a check that has not ended yet."""
    is_due: bool
    """Whether the last check is too long ago; also before the first."""
    is_claimed: bool
    """Whether a check is under way, or has failed a moment ago."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found."""

    distance: float
    """The greatest cosine distance of all texts."""
    drifts: bool
    did_drift: bool
    """What the check before it found."""
    is_changed_here: bool


def cosine_distance(one: Vector, other: Vector) -> float:
    """1 minus the cosine of their angle: 0 to 2. Neither may be all zeros."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return max(0.0, 1.0 - float(a @ b) / sqrt(float(a @ a) * float(b @ b)))


async def read_states(database: Database, every: float) -> list[DriftState]:
    """The states of all models in use; due are those whose last check is more than ``every`` seconds ago."""
    async with database.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute(statement("drift_states"), {"every": every})
        return [DriftState(**row) for row in await cursor.fetchall()]


async def claim_check(database: Database, seen: DriftState, life: float) -> bool:
    """Whether the asker is the one who checks, of all who saw the same; for ``life`` seconds."""
    asked = {
        "model": seen.model,
        "dimensions": seen.dimensions,
        "checked_at": seen.checked_at,
        "life": life,
    }
    async with database.connection() as connection:
        cursor = await connection.execute(statement("claim_drift_check"), asked)
        return await cursor.fetchone() is not None


async def end_check(
    database: Database,
    of: DriftState,
    vectors: Mapping[bytes, Vector],
    parameters: str,
    allowed: float,
) -> Finding:
    """Compare vectors, by their texts' content hashes, with the first ones, and keep what was found.

    More than ``allowed`` is a drift. A text without a first vector has this one.
    """
    about: dict[str, Any] = {"model": of.model, "dimensions": of.dimensions, "hashes": list(vectors)}
    about["vectors"] = [vector.astype(_BYTES, copy=False).tobytes() for vector in vectors.values()]
    async with database.connection() as connection, connection.transaction():
        cursor = connection.cursor(binary=True)
        await cursor.execute(statement("lock_drift"), about)
        did_drift = await cursor.fetchone() == (True,)
        await cursor.execute(statement("first_drift_vectors"), about)
        distance = _greatest(vectors, await cursor.fetchall())
        await cursor.execute(statement("keep_drift_vectors"), about)
        about |= {"distance": distance, "drifts": distance > allowed, "parameters": parameters}
        await cursor.execute(statement("end_drift_check"), about)
        is_changed = await cursor.fetchone() == (True,)
    return Finding(
        distance=distance, drifts=distance > allowed, did_drift=did_drift, is_changed_here=is_changed
    )


def list_states(connection: Connection) -> list[DriftState]:
    """The states of all models in use, for people. Raises ``StoreError``."""
    with store_errors("the checks cannot be read"), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement("drift_states"), {"every": 0.0})
        return [DriftState(**row) for row in cursor]


def want_check(connection: Connection, model: str) -> int:
    """Have workers check a model now; of how many sizes of its vectors. 0: no collection uses the model.

    Raises ``StoreError``.
    """
    with store_errors("no check was asked for"):
        (sizes,) = connection.execute(statement("want_drift_check"), {"model": model}).fetchone() or (0,)
    return int(sizes)


def accept(connection: Connection, model: str) -> int:
    """Compare later checks of a model with what the last one found; of how many sizes of its vectors.

    0: it was not checked yet. Raises ``StoreError``.
    """
    with store_errors("nothing was accepted"), connection.transaction():
        accepted = connection.execute(statement("accept_drift"), {"model": model}).rowcount
        connection.execute(statement("accept_drift_vectors"), {"model": model})
    return accepted


def _greatest(vectors: Mapping[bytes, Vector], firsts: list[tuple[Any, ...]]) -> float:
    """The greatest distance from the first vectors that there are; 0 without any."""
    pairs = ((vectors[key], np.frombuffer(first, _BYTES)) for key, first in firsts)
    return max((cosine_distance(latest, first) for latest, first in pairs), default=0.0)
