"""What Postgres writes into its own log about a connection: an error's DETAIL quotes the row, hence the text.

What a trigger of somebody's own says is logged all the same.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import psycopg

from embedq_sql import statement

logger = logging.getLogger(__name__)


async def keep_texts_out(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have errors on this connection logged without details; where the role may not, warn once a process."""
    await connection.execute(statement("log_no_details"))
    cursor = await connection.execute(statement("logs_details"))
    if await cursor.fetchone() == (True,):
        _warn(connection.info.user)


@cache
def _warn(role: str) -> None:
    logger.warning(
        "Postgres logs the rows that it refuses, with their texts, and role %r may not turn that off: let a "
        "superuser run ALTER ROLE %s SET log_error_verbosity = 'terse'",
        role,
        role,
    )
