"""A connection that waits for an answer of Postgres so long and no longer.

A server whose host is gone, or whose replies a firewall drops, never answers and never closes: without a
bound the rows in hand would wait for it for ever. TCP finds the silent host (keepalives); this finds also a
server, or something in between, that takes the bytes and says nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import psycopg


class WatchedConnection(psycopg.AsyncConnection[tuple[object, ...]]):
    """A connection whose socket is shut when an answer is overdue.

    What waited for the answer then fails like that of any lost connection. It is not cancelled: the driver
    would first ask the server, over the same network, to cancel the statement.
    """

    patience = 60.0
    """Seconds for one exchange with the server: a statement, a piece of a COPY, a commit."""
    was_cut = False
    """Whether an answer was overdue."""

    @classmethod
    async def connect(  # type: ignore[override]  # ``failed`` is one keyword more, and none of libpq's
        cls, conninfo: str = "", *, failed: Callable[[str], None] = lambda _: None, **options: Any
    ) -> Self:
        """Connect; ``failed`` is told why it did not work."""
        try:
            return await super().connect(conninfo, **options)
        except psycopg.Error as error:
            # The first line is the server's or the network's reason, with host and role but no password.
            failed(str(error).partition("\n")[0])
            raise

    async def wait(self, *arguments: Any, **options: Any) -> Any:
        """Do one exchange with the server: every method of the driver ends here."""
        timer = asyncio.get_running_loop().call_later(self.patience, self._cut)
        try:
            return await super().wait(*arguments, **options)
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self.was_cut = True
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)
