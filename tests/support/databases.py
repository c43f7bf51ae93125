"""Databases for tests: each has one of its own, which costs a few hundredths of a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from embedq_worker.embedded.postgres import Postgres
from embedq_worker.store.migrations import apply_migrations

MIGRATED = "embedq_template"
EMPTY = "template1"
_COPY = "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY"
"""What is not synced is copied by file at a fifth of what it takes by block and log."""
_DROP = "DROP DATABASE {} WITH (FORCE)"


class Databases:
    """Copies of templates on one server, made over one connection."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._numbers = count(1)
        self._connection: psycopg.Connection[Any] | None = None

    def add_migrated(self) -> None:
        """Make the template with every migration applied."""
        with psycopg.connect(self._server.create_database(MIGRATED), autocommit=True) as connection:
            apply_migrations(connection)

    @contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """URL of a copy of a template, which nobody may be connected to; dropped afterwards."""
        name = f"test_{next(self._numbers)}"
        self._execute(_COPY, name, template)
        yield self._server.url_of(name)
        self._execute(_DROP, name)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _execute(self, statement: str, *names: str) -> None:
        composed = sql.SQL(statement).format(*map(sql.Identifier, names))
        try:
            self._opened().execute(composed)
        except psycopg.OperationalError:  # the test has stopped the server, and started it again
            self._opened().execute(composed)

    def _opened(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._server.url_of("postgres"), autocommit=True)
        return self._connection
