"""Postgres logs no detail of an error on a worker's connection, as far as the worker's role may say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from embedq_worker.store.postgres import server_log
from embedq_worker.store.postgres.database import Database


async def verbosity(url: str) -> tuple[object, ...] | None:
    """What holds on a connection of the worker's pool."""
    database = Database(url, connections=1)
    await database.open()
    try:
        async with database.connection() as connection:
            return await (await connection.execute("SHOW log_error_verbosity")).fetchone()
    finally:
        await database.close()


@contextmanager
def ordinary_role(url: str, name: str, *, terse: bool) -> Iterator[str]:
    """The URL for a role that is no superuser; with ``terse`` a superuser has thought of the log."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} SET log_error_verbosity = 'default'".encode()
        )
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        if terse:
            connection.execute(f"ALTER ROLE {name} SET log_error_verbosity = 'terse'".encode())
        try:
            yield url.replace("postgres@", f"{name}@")
        finally:
            connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture(autouse=True)
def not_warned_yet() -> None:
    """As in a new process."""
    server_log._warn.cache_clear()


async def test_a_superuser_turns_details_off(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """For the worker's connections."""
    assert await verbosity(postgres_url) == ("terse",)
    assert caplog.messages == []


async def test_an_ordinary_role_says_what_to_do(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once; and it works all the same."""
    with ordinary_role(postgres_url, "talkative", terse=False) as url:
        for _ in range(2):
            assert await verbosity(url) == ("default",)
    (warning,) = caplog.messages
    assert "ALTER ROLE talkative SET log_error_verbosity = 'terse'" in warning


async def test_what_was_set_for_the_role_is_enough(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No warning then."""
    with ordinary_role(postgres_url, "discreet", terse=True) as url:
        assert await verbosity(url) == ("terse",)
    assert caplog.messages == []
