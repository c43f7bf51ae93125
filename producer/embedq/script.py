"""A Lua script, known to Redis by its digest; its text is sent only where Redis does not have it.

Nothing is remembered of what a server knows: a restart, a failover and a forked process need no word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis.asyncio


class Script:
    """A script by its text, and the SHA-1 by which Redis knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: object, keys: Sequence[str], arguments: Sequence[str | bytes]) -> Any:
        """Run it through a redis-py client, prefixed or not, and wait for the reply."""
        evaluate: Any = client.execute_command  # type: ignore[attr-defined]  # any redis-py client
        try:
            return evaluate("EVALSHA", self.digest, len(keys), *keys, *arguments)
        except not_there():
            return evaluate("EVAL", self.text, len(keys), *keys, *arguments)

    async def run_async(
        self, client: redis.asyncio.Redis, keys: Sequence[str], arguments: Sequence[str | bytes]
    ) -> Any:
        """Likewise through an asynchronous client."""
        evaluate: Any = client.execute_command
        try:
            return await evaluate("EVALSHA", self.digest, len(keys), *keys, *arguments)
        except not_there():
            return await evaluate("EVAL", self.text, len(keys), *keys, *arguments)


def not_there() -> type[Exception]:
    """What is raised where Redis does not have a script; imported when something is raised, not before: a
    command that asks Redis last starts sooner."""
    from redis.exceptions import NoScriptError

    return NoScriptError
