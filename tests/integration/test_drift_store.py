"""What the fleet keeps of drift: one process claims a check; first vectors stay until others are accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.drift import (
    Finding,
    Vector,
    accept,
    claim_check,
    end_check,
    list_states,
    read_states,
    want_check,
)
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.postgres.database import Database

X, Y = np.array([3, 0], np.float32), np.array([0, 1], np.float32)
MODEL = Model(id="m", dimensions=2)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The engine's connections."""
    opened = Database(database_url, connections=4)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def docs(connection: Connection) -> None:
    """A collection that uses the model."""
    create_collection(connection, name="docs", model=MODEL)


async def found(database: Database, parameters: str = "{}", **vectors: Vector) -> Finding:
    """End a check with these vectors, by their texts."""
    [state] = await read_states(database, 60)
    await claim_check(database, state, 60)
    by_hash = {text.encode(): vector for text, vector in vectors.items()}
    return await end_check(database, state, by_hash, parameters, 0.001)


async def test_one_of_those_who_saw_the_same_claims(database: Database) -> None:
    """Of many at once one; none while it is at it, nor who saw what was before it ended."""
    [seen] = await read_states(database, 60)
    claims = await asyncio.gather(*(claim_check(database, seen, 60) for _ in range(4)))
    assert sorted(claims) == [False, False, False, True]
    await end_check(database, seen, {b"a": X}, "{}", 0.001)
    assert not await claim_check(database, seen, 60)
    [now] = await read_states(database, 60)
    assert (now.is_due, now.is_claimed) == (False, False)
    assert await claim_check(database, now, 60)


async def test_a_claim_lapses(database: Database, connection: Connection) -> None:
    """Who claimed and died holds nothing up for longer."""
    [seen] = await read_states(database, 60)
    assert await claim_check(database, seen, 60)
    connection.execute("UPDATE embedq.drift SET claimed_until = now() - interval '1 ms'")
    assert await claim_check(database, seen, 60)


async def test_first_vectors_stay(database: Database, connection: Connection) -> None:
    """A drift is measured against them, however long it lasts; by the worst text; lengths do not matter."""
    first = await found(database, a=X, b=Y)
    longer = await found(database, a=X * 2, b=Y)
    worst = await found(database, a=X, b=X)
    again = await found(database, a=X, b=X)
    over = await found(database, a=X, b=Y)
    assert [each.distance for each in (first, longer, worst, again, over)] == [0, 0, 1, 1, 0]
    assert [(each.did_drift, each.drifts) for each in (longer, worst, again, over)] == [
        (False, False),
        (False, True),
        (True, True),
        (True, False),
    ]
    assert list_states(connection)[0].drifts_since is None


async def test_what_is_accepted_is_the_first_from_then_on(database: Database, connection: Connection) -> None:
    """With what shaped it."""
    await found(database, a=X)
    changed = await found(database, "other", a=Y)
    assert list_states(connection)[0].is_changed_here
    assert (accept(connection, "m"), accept(connection, "n")) == (1, 0)
    [state] = list_states(connection)
    assert (state.distance, state.drifts_since, state.is_changed_here) == (0, None, False)
    after = await found(database, "other", a=Y)
    assert (changed.distance, changed.is_changed_here) == (1, True)
    assert (after.distance, after.did_drift, after.is_changed_here) == (0, False, False)


async def test_a_new_text_has_its_first_vector_from_then_on(database: Database) -> None:
    """A later version of embedq may have others; those that stay are compared."""
    await found(database, a=X)
    assert (await found(database, b=Y)).distance == 0
    assert (await found(database, a=X, b=X)).distance == 1


async def test_who_asks_does_not_wait_for_a_claim(database: Database, connection: Connection) -> None:
    """A check that has failed a moment ago would be tried again in minutes."""
    [seen] = await read_states(database, 60)
    await claim_check(database, seen, 60)
    assert (want_check(connection, "m"), want_check(connection, "n")) == (1, 0)
    [state] = await read_states(database, 60)
    assert (state.is_wanted, state.is_claimed) == (True, False)
    await found(database, a=X)
    assert not list_states(connection)[0].is_wanted


async def test_first_vectors_outlive_their_collection(database: Database, connection: Connection) -> None:
    """A model that nobody uses is not listed; one that comes back is the one that it was, or drifts."""
    await found(database, a=X)
    drop_collection(connection, "docs")
    assert list_states(connection) == []
    create_collection(connection, name="docs", model=MODEL)
    assert (await found(database, a=Y)).drifts
