"""Relaying for ever: round after round of the relay, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import redis.asyncio as redis
from redis.exceptions import RedisError

from embedq_worker.engine.outbox.relay import Relay
from embedq_worker.engine.steady import steadily
from embedq_worker.errors import CollectionGone, DatabaseAway, NotMigrated, StoreError
from embedq_worker.logs import get_logger
from embedq_worker.metrics.servers import REDIS_ERRORS
from embedq_worker.settings import Settings
from embedq_worker.store.postgres.database import Database

logger = get_logger(__name__)

_WHAT = "sending what is in the outbox"
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 5.0
"""Seconds until the next round after rounds that failed."""


class Relaying:
    """Rows wait in the outbox while Postgres or Redis is away; what is in the way is said once."""

    def __init__(
        self, settings: Settings, database: Database, client: redis.Redis, is_held: Callable[[str], bool]
    ) -> None:
        self._relay = Relay(settings, database, client, is_held)
        self._outage = database.outage
        self.when_marked = self._relay.when_marked
        self._delay = _FIRST_DELAY
        self._said: str | None = None
        self._round = asyncio.Lock()
        self._is_over = asyncio.Event()

    async def run(self) -> None:
        """Relay until it is finished; then wait to be cancelled."""
        await steadily(self._round_and_rest, "relaying the outbox")

    def let_go(self) -> None:
        """Begin no other round."""
        self._is_over.set()

    async def finish(self) -> None:
        """After ``let_go``: wait until what is being sent is committed."""
        async with self._round:
            pass

    async def _round_and_rest(self) -> None:
        async with self._round:
            pause = None if self._is_over.is_set() else await self._try_round()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await (asyncio.Event() if pause is None else self._is_over).wait()

    async def _try_round(self) -> float:
        """Seconds until the next one."""
        try:
            sent = await self._relay.go_round()
        except DatabaseAway as error:
            self._outage.failed(_WHAT, error, alone=True)
        except CollectionGone:
            # Where the whole schema is missing, the directory says so by the second round.
            if self._delay > _FIRST_DELAY and self._outage.reason is None:
                self._say(str(NotMigrated()))
        except StoreError as error:
            self._say(str(error))
        except (RedisError, OSError) as error:
            REDIS_ERRORS.inc()
            self._say(f"Redis does not take it ({code_of(error)}); look whether it runs, and at its memory")
        else:
            self._over()
            return self._relay.pause(sent)
        self._delay = min(_LONGEST_DELAY, self._delay * 2)
        return self._delay * random.uniform(0.5, 1)  # noqa: S311 - jitter

    def _over(self) -> None:
        self._outage.over(_WHAT)
        self._delay, self._said = _FIRST_DELAY, None

    def _say(self, reason: str) -> None:
        self._outage.over(_WHAT)
        if reason != self._said:
            sentence = "what is enqueued in SQL waits in the outbox, trying again every few seconds: {reason}"
            logger.warning("outbox_waits", sentence, reason=reason)
        self._said = reason


def code_of(error: Exception) -> str:
    """Redis's short code, or the error's class: what redis-py says quotes the command, and so a text."""
    first = str(error).rpartition("caused error: ")[2].partition(" ")[0]
    return first if first.isalpha() and first.isupper() else type(error).__name__
