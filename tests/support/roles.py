"""Roles of a test's own, which may log in and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from embedq_worker.store.postgres.connections import Connection, connect


@contextmanager
def role(url: str, name: str) -> Iterator[str]:
    """The URL for a new role, for the block; whatever it owns or may do in the database goes with it."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = f"{name}_of_{connection.info.dbname}"
        quoted = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(quoted))
        try:
            yield url.replace("postgres@", f"{name}@")
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(quoted))


def name_in(url: str) -> str:
    """The role that a URL is for."""
    return url.partition("://")[2].partition("@")[0]


@contextmanager
def worker_role(owner: Connection, url: str) -> Iterator[str]:
    """The URL for a role that may run workers."""
    with role(url, "worker") as theirs:
        owner.execute("SELECT embedq.grant_worker(%s::regrole)", (name_in(theirs),))
        yield theirs


@contextmanager
def reader_role(owner: Connection, url: str, collection: str) -> Iterator[Connection]:
    """A connection of a role that may read one collection."""
    with role(url, "reader") as theirs:
        grant = "SELECT embedq.grant_reader(%s::regrole, %s)"
        owner.execute(grant, (name_in(theirs), collection))
        with connect(theirs) as opened:
            yield opened
