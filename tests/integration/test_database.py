"""The engine's connections to Postgres: to a server that is silent, read-only, full, or another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import LiteralString
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from embedq.errors import ConfigurationError
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.errors import DatabaseAway
from embedq_worker.store.postgres.database import Database
from tests.support.postgres import set_read_only, socket_of, through
from tests.support.proxy import Proxy

TIMEOUT = 0.5


@asynccontextmanager
async def opened(url: str, *, connections: int = 2) -> AsyncIterator[Database]:
    """A pool of short patience."""
    database = Database(url, connections=connections, timeout=TIMEOUT)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def ask(database: Database, query: LiteralString = "SHOW data_directory") -> str:
    """Which server answers, by its data directory."""
    async with database.connection() as connection:
        cursor = await connection.execute(query)
        (row,) = await cursor.fetchall()
        return str(row[0])


async def away(database: Database) -> str:
    """What is said of a server that is away."""
    with pytest.raises(DatabaseAway) as said:
        await ask(database)
    return str(said.value)


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    """A proxy before Postgres."""
    with Proxy(socket_of(postgres_url)) as proxy:
        yield proxy


async def test_a_silent_server_is_found_in_the_midst_of_a_statement(proxy: Proxy, postgres_url: str) -> None:
    """Its connection stays open and says nothing: it is given up, and the next one works."""
    async with opened(through(proxy, postgres_url)) as database:
        with pytest.raises(DatabaseAway, match=r"did not answer within 0\.5 s") as said:
            async with database.connection() as connection:
                proxy.stall()
                asked_at = monotonic()
                await connection.execute("SELECT 1")
        assert monotonic() - asked_at < TIMEOUT + 2
        assert "database_timeout" in str(said.value)
        proxy.resume()
        await ask(database)


async def test_a_silent_server_is_found_before_a_statement(proxy: Proxy, postgres_url: str) -> None:
    """An idle connection is asked first, also not for ever; then nobody can connect, and it says so."""
    async with opened(through(proxy, postgres_url, connect_timeout="2")) as database:
        await ask(database)
        proxy.stall()
        asked_at = monotonic()
        assert "no connection to Postgres" in await away(database)
        assert monotonic() - asked_at < 8
        proxy.resume()
        await ask(database)


async def test_a_statement_that_takes_too_long_is_ended(postgres_url: str) -> None:
    """By Postgres itself, so that it does not go on with its locks; the connection stays."""
    async with opened(postgres_url, connections=1) as database:
        with pytest.raises(DatabaseAway, match=r"took too long.*57014"):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_sleep(30)")
        async with database.connection() as same:
            assert same is connection


async def test_a_lost_connection_is_replaced(proxy: Proxy, postgres_url: str) -> None:
    """One that was cut while idle costs nobody an error."""
    async with opened(through(proxy, postgres_url)) as database:
        await ask(database)
        proxy.cut()
        await ask(database)


async def test_a_server_that_is_not_there_is_named(proxy: Proxy, postgres_url: str) -> None:
    """With the network's reason and what to do; it is found again at once."""
    async with opened(through(proxy, postgres_url)) as database:
        await ask(database)
        proxy.refuse()
        proxy.cut()
        assert "no connection to Postgres" in await away(database)
        said = await away(database)
        assert "refused" in said
        assert "EMBEDQ_DATABASE_URL" in said
        proxy.accept()
        back_at = monotonic()
        await ask(database)
        assert monotonic() - back_at < 5


async def test_a_full_server_is_named(postgres_url: str) -> None:
    """Somebody else has all connections (53300): the server's own words, and it goes on when one is free."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 1")
        url = postgres_url.replace("postgres@", "crowded@")
        try:
            async with opened(url) as database:
                with psycopg.connect(url):
                    said = await away(database)
                    assert "too many connections" in said
                    assert "max_connections" in said
                await ask(database, "SELECT 'free'")
        finally:
            admin.execute("DROP ROLE crowded")


async def test_a_server_that_becomes_read_only_is_left(postgres_url: str) -> None:
    """Of several hosts the one is found that can be written; alone it is refused, with the reason."""
    with Postgres(durable=False) as other:
        name = str(conninfo_to_dict(postgres_url)["dbname"])
        urls = [postgres_url, other.create_database(name)]
        folders = ",".join(quote(str(conninfo_to_dict(url)["host"]), safe="") for url in urls)
        both = f"postgresql://postgres@/{name}?host={folders}&port=5432"
        async with opened(both) as database, opened(urls[0]) as alone:
            first = await ask(database)
            assert first == await ask(alone)
            set_read_only(urls[0], True)
            try:
                async with asyncio.timeout(5):  # its sessions hear of it in a moment
                    while await ask(database) != str(other.data):
                        pass
                said = await away(alone)
                assert "the database is read-only" in said
                assert "lead to the primary" in said
            finally:
                set_read_only(urls[0], False)
            assert await ask(alone) == first


def test_a_url_that_cannot_be_one_is_refused() -> None:
    """Before anything connects, and without its password."""
    with pytest.raises(ConfigurationError, match="percent-encoded") as said:
        Database("postgresql://user:s3cr@t@host/db", connections=1)
    assert "s3cr" not in str(said.value)
