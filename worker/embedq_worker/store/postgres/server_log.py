"""What Postgres writes into its own log about a connection: an error's DETAIL quotes the row, hence the text.

What a trigger of somebody's own says is logged all the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import psycopg

from embedq_sql import statement
from embedq_worker.logs import get_logger

logger = get_logger(__name__)


async def keep_texts_out(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have errors on this connection logged without details; where the role may not, warn once a process."""
    await connection.execute(statement("log_no_details"))
    cursor = await connection.execute(statement("logs_details"))
    if await cursor.fetchone() == (True,):
        _warn(connection.info.user)


@cache
def _warn(role: str) -> None:
    logger.warning(
        "server_logs_texts",
        "Postgres logs the rows that it refuses, with their texts, and role {role!r} may not turn that off: "
        "let a superuser run ALTER ROLE {role} SET log_error_verbosity = 'terse'",
        role=role,
    )
