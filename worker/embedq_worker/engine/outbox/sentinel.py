"""The sentinel: a key of Redis that is gone when what was sent to it is gone.

It holds the epoch that Postgres holds. Where it is missing or says something else, Redis was emptied, or is
another one or an older copy: a new epoch begins, and with it every row of the outbox is unsent.
"""

from __future__ import annotations

import redis.asyncio as redis

from embedq_worker.logs import get_logger
from embedq_worker.metrics.outbox import EPOCHS
from embedq_worker.names import EPOCH
from embedq_worker.store.outbox.epoch import UNUSED, held_epoch
from embedq_worker.store.postgres.database import Database

logger = get_logger(__name__)

_DIGITS = 18
"""Of an epoch at most: what is longer is none, and one more would not fit."""


class Sentinel:
    """Any number of processes may look after it at once."""

    def __init__(self, database: Database, client: redis.Redis, key_prefix: str = "") -> None:
        self._database = database
        self._redis = client
        self.key = key_prefix + EPOCH

    async def renew(self) -> int:
        """The epoch, a new one where Redis does not hold that of Postgres.

        Redis is told before Postgres: if only one of them hears of it, they differ, and it is done again.
        Raises ``StoreError`` and redis-py's errors.
        """
        async with held_epoch(self._database) as held:
            said = epoch_in(await self._redis.get(self.key))
            if said == held.value:  # another process was first
                return held.value
            epoch = max(held.value, said or 0) + 1
            await held.set(epoch)
            await self._redis.set(self.key, epoch)
        if held.value != UNUSED:
            _tell(epoch)
        return epoch


def _tell(epoch: int) -> None:
    EPOCHS.inc()
    sentence = (
        "Redis does not hold what was sent to it: it was emptied, restored or replaced; all that is in the "
        "outbox is sent again (epoch {epoch}), and what was enqueued without it is lost"
    )
    logger.warning("redis_emptied", sentence, epoch=epoch)


def epoch_in(value: bytes | str | None) -> int | None:
    """The epoch that the key holds; None where it is missing, or holds something else."""
    if value is None or not value.isdigit() or len(value) > _DIGITS:
        return None
    return int(value)
