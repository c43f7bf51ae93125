"""A Lua script, known to Redis by its digest; its text is sent only where Redis does not have it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis.asyncio


class Script:
    """A script by its text, and the SHA-1 by which Redis knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: object, keys: Sequence[str], arguments: Sequence[str]) -> object:
        """Run it through a redis-py client, prefixed or not, and wait for the reply."""
        evaluate: Any = client.execute_command  # type: ignore[attr-defined]  # any redis-py client
        try:
            return evaluate("EVALSHA", self.digest, len(keys), *keys, *arguments)
        except _not_there():
            return evaluate("EVAL", self.text, len(keys), *keys, *arguments)

    async def run_async(
        self, client: redis.asyncio.Redis, keys: Sequence[str], arguments: Sequence[str | bytes]
    ) -> Any:
        """Likewise through an asynchronous client, ``leaving_demoted``."""
        async with leaving_demoted(client):
            try:
                return await client.evalsha(self.digest, len(keys), *keys, *arguments)
            except _not_there():
                return await client.eval(self.text, len(keys), *keys, *arguments)


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


def _not_there() -> type[Exception]:
    """What is raised where Redis does not have a script; imported when something is raised, not before: a
    command that asks Redis last starts sooner."""
    from redis.exceptions import NoScriptError

    return NoScriptError


def _read_only() -> type[Exception]:
    """What is raised where Redis is a replica; imported as late."""
    from redis.exceptions import ReadOnlyError

    return ReadOnlyError
