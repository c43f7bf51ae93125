"""Claims of texts, at the database: of several claimants exactly one wins, and none is lost for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from hashlib import sha256

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import tuple_row

from embedq_sql import statement
from embedq_worker.errors import RowRefused
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.vector_cache import (
    Found,
    Kind,
    Made,
    begin_claimant,
    claim,
    end_claimant,
    forget_unused,
    give_up,
    keep,
    renew_claimant,
)

KIND = Kind("a-model", '{"dimensions":4}')
KEYS = [sha256(bytes([number])).digest() for number in range(200)]
LIFE = 60.0


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database with two claimants, a and b."""
    database = Database(database_url, connections=4)
    await database.open()
    for name in "ab":
        await begin_claimant(database, name, LIFE)
    yield database
    await database.close()


def made(key: bytes, value: float = 1.0) -> Made:
    """A vector that is full of ``value``."""
    return Made(key, np.full(4, value, np.float32), 3)


async def change(database: Database, statement: str) -> None:
    """Do to the tables what time would do."""
    async with database.connection() as connection:
        await connection.execute(statement.encode())


async def lapse(database: Database, name: str) -> None:
    """Let a claimant's life be over."""
    await change(
        database,
        f"UPDATE embedq.vector_claimant SET alive_until = now() WHERE name = '{name}'",  # noqa: S608 - ours
    )


async def test_each_text_is_claimed_once(database: Database) -> None:
    """Eight claimants at the same time, each with all texts in another order."""
    names = [f"claimant {number}" for number in range(8)]
    for name in names:
        await begin_claimant(database, name, LIFE)
    orders = [random.sample(KEYS, len(KEYS)) for _ in names]
    asked = zip(orders, names, strict=True)
    found = await asyncio.gather(*(claim(database, KIND, keys, name) for keys, name in asked))

    assert sorted(key for each in found for key in each.claimed) == sorted(KEYS)
    assert not any(each.vectors for each in found)


async def test_a_claim_is_its_claimants_while_that_lives(database: Database) -> None:
    """Its own it may claim again, as when it did not hear of it; another's only when that is over."""
    assert (await claim(database, KIND, KEYS[:2], "a")).claimed == {*KEYS[:2]}
    assert await claim(database, KIND, KEYS[:3], "b") == Found({}, frozenset(KEYS[2:3]))
    assert (await claim(database, KIND, KEYS[:3], "a")).claimed == {*KEYS[:2]}
    await lapse(database, "a")
    assert not await renew_claimant(database, "a", LIFE), "others may have acted on it"
    assert (await claim(database, KIND, KEYS[:1], "b")).claimed == {KEYS[0]}
    await end_claimant(database, "b")
    await begin_claimant(database, "c", LIFE)
    assert (await claim(database, KIND, KEYS[:3], "c")).claimed == {*KEYS[:3]}


async def test_vectors_are_found_as_they_were_kept(database: Database) -> None:
    """Bit by bit; the first of a text stays, whoever had the claim."""
    await claim(database, KIND, KEYS[:1], "a")
    odd = np.array([-0.0, 1e-45, 3.4e38, 1 / 3], np.float32)
    await keep(database, KIND, [Made(KEYS[0], odd, 7), made(KEYS[1])])
    await keep(database, KIND, [made(KEYS[1], 9.0)])
    found = await claim(database, KIND, KEYS[:3], "b")

    assert found.vectors[KEYS[0]].tobytes() == odd.tobytes()
    assert found.vectors[KEYS[1]].tolist() == [1.0] * 4
    assert found.claimed == {KEYS[2]}
    other = Kind(KIND.model, '{"dimensions":5}')
    assert await claim(database, other, KEYS[:1], "b") == Found({}, frozenset(KEYS[:1]))


async def test_a_claim_is_given_up_by_its_claimant_alone(database: Database) -> None:
    """Neither a vector nor another's claim goes with it."""
    await claim(database, KIND, KEYS[:2], "a")
    await keep(database, KIND, [made(KEYS[0])])
    await give_up(database, KIND, KEYS[:2], "b")
    assert (await claim(database, KIND, KEYS[:2], "b")).claimed == frozenset()
    await give_up(database, KIND, KEYS[:2], "a")
    found = await claim(database, KIND, KEYS[:2], "b")
    assert (set(found.claimed), [*found.vectors]) == ({KEYS[1]}, KEYS[:1])


async def test_a_takeover_that_was_not_seen_is_respected(database: Database, database_url: str) -> None:
    """Between a statement's snapshot and its write somebody new may have taken the claim over."""
    await claim(database, KIND, KEYS[:1], "a")
    await lapse(database, "a")
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("INSERT INTO embedq.vector_claimant VALUES ('new', now() + interval '1 hour')")
        await other.execute("UPDATE embedq.vector_cache SET claimed_by = 'new'")
        claiming = asyncio.create_task(claim(database, KIND, KEYS[:1], "b"))
        await until_it_waits(database)
        await other.commit()
        assert await claiming == Found({}, frozenset())


async def until_it_waits(database: Database) -> None:
    """Until a statement waits for a row's lock."""
    async with asyncio.timeout(10), database.connection() as connection:
        while True:
            cursor = await connection.execute("SELECT FROM pg_locks WHERE NOT granted")
            if cursor.rowcount:
                return
            await asyncio.sleep(0.01)


async def test_reading_is_not_writing(database: Database) -> None:
    """A vector that is found is written to once a day, and another's claim that is waited for never."""
    await keep(database, KIND, [made(KEYS[0])])
    await claim(database, KIND, KEYS[1:2], "a")
    before = await rows(database)
    await claim(database, KIND, KEYS[:2], "b")
    assert await rows(database) == before
    await change(database, "UPDATE embedq.vector_cache SET used_at = now() - interval '25 hours'")
    await claim(database, KIND, KEYS[:2], "b")
    assert await used(database) == {KEYS[0]: True, KEYS[1]: False}


async def rows(database: Database) -> list[tuple[object, ...]]:
    """Which transaction wrote each row, and which locked it last."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT content_hash, xmin::text, xmax::text FROM embedq.vector_cache"
        )
        return sorted(await cursor.fetchall())


async def used(database: Database) -> dict[bytes, bool]:
    """Whether each was used within the last hour."""
    async with database.connection() as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(
            "SELECT content_hash, used_at > now() - interval '1 hour' FROM embedq.vector_cache"
        )
        return dict(await cursor.fetchall())


async def test_a_look_up_reads_its_own_texts_alone(database: Database) -> None:
    """Also before the first statistics: by the hash, never all vectors of a model."""
    await change(
        database,
        "INSERT INTO embedq.vector_cache (model, parameters, content_hash, vector)"
        " SELECT 'a-model', '{\"dimensions\":4}', sha256(n::text::bytea), 'x'"
        " FROM generate_series(1, 3000) AS n",
    )
    asked = {**KIND._asdict(), "hashes": KEYS, "claimant": "a"}
    async with database.connection() as connection:
        cursor = await connection.execute("EXPLAIN " + statement("claim_vectors"), asked)
        plan = "\n".join(str(line) for (line,) in await cursor.fetchall())
    assert "Index Cond: ((content_hash = ANY" in plan
    assert "Seq Scan on vector_cache" not in plan


async def test_only_what_nobody_uses_is_forgotten(database: Database) -> None:
    """Old vectors and old claims of who is gone; a claim that is alive is kept however old it is."""
    await keep(database, KIND, [made(key) for key in KEYS[:2]])
    await claim(database, KIND, KEYS[2:4], "a")
    await claim(database, KIND, KEYS[4:5], "b")
    await change(database, "UPDATE embedq.vector_cache SET used_at = now() - interval '191 hours'")
    await claim(database, KIND, KEYS[:1], "b")
    await lapse(database, "a")

    assert await forget_unused(database, 7) == 0
    await change(
        database,
        "UPDATE embedq.vector_cache SET used_at = used_at - interval '2 hours';"
        "UPDATE embedq.vector_claimant SET alive_until = alive_until - interval '25 hours' WHERE name = 'a'",
    )
    assert await forget_unused(database, 7) == 3
    assert set(await used(database)) == {KEYS[0], KEYS[4]}
    await begin_claimant(database, "a", LIFE)  # its row was forgotten too, else the name would be taken


async def test_missing_rights_are_not_an_absence(database_url: str) -> None:
    """Whoever may not use the cache goes on without it; an absence would be waited out."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE no_cache; GRANT USAGE ON SCHEMA embedq TO no_cache")
        try:
            stranger = Database(make_conninfo(database_url, options="-c role=no_cache"), connections=1)
            await stranger.open()
            with pytest.raises(RowRefused, match="42501"):
                await claim(stranger, KIND, KEYS[:1], "a")
            await stranger.close()
        finally:
            connection.execute("DROP OWNED BY no_cache; DROP ROLE no_cache")
