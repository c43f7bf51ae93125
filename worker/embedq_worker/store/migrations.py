"""Bringing a database to the present schema."""

from __future__ import annotations

from psycopg import errors

from embedq_sql import migrations, statement
from embedq_worker.errors import StoreError
from embedq_worker.store.collections import renew_functions
from embedq_worker.store.postgres.connections import Connection, store_errors

LEAST_POSTGRES = 14
LEAST_PGVECTOR = (0, 8)
"""The first with iterative index scans."""


def apply_migrations(connection: Connection) -> list[str]:
    """Apply the migrations that the database does not have; returns their names. All of them, or none.

    The collections' functions are made anew: their templates belong to the schema. Workers' roles get their
    rights on what is new. Safe to run at the same
    time from several places: the later ones wait and find nothing to do. Raises ``CollectionConflict`` and
    ``StoreError``.
    """
    with store_errors("the database was not migrated"), connection.transaction():
        connection.execute(statement("lock_migrations"))
        _check_server(connection)
        _create_extension(connection)
        done = _applied(connection)
        missing = {name: text for name, text in migrations().items() if _number(name) not in done}
        for name, text in missing.items():
            connection.execute(text)
            connection.execute(statement("record_migration"), {"number": _number(name), "name": name})
        renew_functions(connection)
        connection.execute(statement("grant_workers"))
    return list(missing)


def _number(name: str) -> int:
    return int(name.partition("_")[0])


def _applied(connection: Connection) -> set[int]:
    (migrated,) = connection.execute(statement("has_migrations")).fetchone() or (False,)
    return (
        {number for (number,) in connection.execute(statement("applied_migrations"))} if migrated else set()
    )


def _check_server(connection: Connection) -> None:
    version = connection.info.server_version // 10_000
    if version < LEAST_POSTGRES:
        raise StoreError(f"the server is PostgreSQL {version}; embedq needs {LEAST_POSTGRES} or newer")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"the database's encoding is {encoding}, which cannot hold every text; "
            "create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def _create_extension(connection: Connection) -> None:
    try:
        connection.execute(statement("create_extension"))
    except errors.InsufficientPrivilege as error:
        raise StoreError(
            "this user may not create the extension vector; "
            "have a superuser run CREATE EXTENSION vector in this database once"
        ) from error
    except (errors.FeatureNotSupported, errors.UndefinedFile) as error:
        raise StoreError(
            "the server does not have pgvector; install it there "
            "(package postgresql-NN-pgvector, image pgvector/pgvector)"
        ) from error
    (version,) = connection.execute(statement("extension_version")).fetchone() or ("0",)
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_PGVECTOR:
        least = ".".join(map(str, LEAST_PGVECTOR))
        raise StoreError(
            f"the database has pgvector {version}, embedq needs {least}; "
            "install it and run ALTER EXTENSION vector UPDATE"
        )
