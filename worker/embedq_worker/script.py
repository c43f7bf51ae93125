"""A Lua script in the worker, and connections that follow the master after a failover."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import embedq.script

if TYPE_CHECKING:
    import redis.asyncio


class Script(embedq.script.Script):
    """A script whose asynchronous clients follow the master."""

    async def run_async(
        self, client: redis.asyncio.Redis, keys: Sequence[str], arguments: Sequence[str | bytes]
    ) -> Any:
        """Run it, ``leaving_demoted``."""
        async with leaving_demoted(client):
            return await super().run_async(client, keys, arguments)


@asynccontextmanager
async def leaving_demoted(client: redis.asyncio.Redis) -> AsyncIterator[None]:
    """Close a client's connections when the server is read-only, and let the error through.

    After a failover the address leads to the new master, but what is open stays with the old one until
    somebody closes it. A server that is a replica for good is only connected to anew with each attempt.
    """
    try:
        yield
    except _read_only():
        await client.connection_pool.disconnect()
        raise


def _read_only() -> type[Exception]:
    """What is raised where Redis is a replica; imported when something is raised, not before."""
    from redis.exceptions import ReadOnlyError

    return ReadOnlyError
