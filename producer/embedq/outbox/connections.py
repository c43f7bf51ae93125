"""Whose connection it is, and how a statement runs by it. Only the library that it comes from is imported."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from inspect import iscoroutinefunction
from typing import Any, cast

from embedq.errors import ConfigurationError
from embedq.outbox.refusals import Parameters, refusals

Run = Callable[[Parameters], object]
"""Runs the statement; of an asynchronous connection it returns an awaitable."""

FORMS = (
    "a connection of psycopg 3, a connection or session of SQLAlchemy, "
    "or django.db.connection, all of a Postgres database"
)


def is_asynchronous(connection: Any) -> bool:
    """Whether its statements are awaited."""
    return iscoroutinefunction(getattr(connection, "execute", None))


def runner(connection: Any) -> Run:
    """What runs the statement on a connection.

    Raises ``ConfigurationError`` for what is no connection that embedq knows, or not one of Postgres.
    """
    libraries = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    # embedq's own is that of a producer that records, in tests.
    if libraries & {"psycopg", "embedq"} and hasattr(connection, "execute"):
        return _running(connection, _statement())
    if "sqlalchemy" in libraries and hasattr(connection, "execute"):
        return _by_sqlalchemy(connection)
    if "django" in libraries and hasattr(connection, "cursor"):
        return _by_django(connection)
    raise ConfigurationError(f"cannot enqueue by a {type(connection).__qualname__}; give {FORMS}")


def _running(connection: Any, statement: object) -> Run:
    def run(parameters: Parameters) -> None:
        with refusals(parameters):
            connection.execute(statement, parameters)

    async def run_awaited(parameters: Parameters) -> None:
        with refusals(parameters):
            await connection.execute(statement, parameters)

    return run_awaited if is_asynchronous(connection) else run


def _by_sqlalchemy(connection: Any) -> Run:
    from sqlalchemy import text

    run = _running(connection, text(re.sub(r"%\((\w+)\)s", r":\1", _statement())))
    return _flushing(connection, run) if hasattr(connection, "flush") else run


def _flushing(session: Any, run: Run) -> Run:
    """A change that a session has not written yet has no row lock: its version would come before the lock."""

    def flush_and_run(parameters: Parameters) -> None:
        session.flush()
        run(parameters)

    async def flush_and_run_awaited(parameters: Parameters) -> None:
        await session.flush()
        await cast("Awaitable[object]", run(parameters))

    return flush_and_run_awaited if is_asynchronous(session) else flush_and_run


def _by_django(connection: Any) -> Run:
    if connection.vendor != "postgresql":
        raise ConfigurationError(f"cannot enqueue by a database of {connection.vendor}; give {FORMS}")

    def run(parameters: Parameters) -> None:
        with connection.cursor() as cursor, refusals(parameters):
            cursor.execute(_statement(), parameters)

    return run


@cache
def _statement() -> str:
    lines = files("embedq.outbox").joinpath("enqueue_many.sql").read_text("utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))
