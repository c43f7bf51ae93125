"""Limits that are set while the fleet runs: they win over the workers' files until they are let go of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from embedq_worker.limiter.exchange import Concurrency, Limits
from embedq_worker.limiter.keys import settings_key

if TYPE_CHECKING:
    import redis

MOST_CALLS = 1_000_000
MOST_A_MINUTE = 10**12
"""Beyond these nobody means a limit, and the script would no longer write them as whole numbers. As in
``lua/state.lua``."""
Rate = Annotated[int, Meta(ge=0, le=MOST_A_MINUTE)]


class LiveLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits set for the running fleet, which win over the workers' files; None: the file's holds."""

    max_concurrency: Annotated[int, Meta(ge=1, le=MOST_CALLS)] | None = None
    requests_per_minute: Rate | None = None
    """0: no limit, although the file may have one."""
    tokens_per_minute: Rate | None = None
    """0: no limit, although the file may have one."""
    concurrency: Concurrency | None = None

    def over(self, file: Limits) -> Limits:
        """The limits in force for a worker with that file."""
        return Limits(
            max_concurrency=self.max_concurrency or file.max_concurrency,
            requests_per_minute=_chosen(self.requests_per_minute, file.requests_per_minute),
            tokens_per_minute=_chosen(self.tokens_per_minute, file.tokens_per_minute),
            concurrency=self.concurrency or file.concurrency,
        )


def read_live(fields: Mapping[str, str]) -> LiveLimits:
    """What is set and can be a limit; a value that cannot was not set by us."""
    known: dict[str, Any] = {}
    for name in fields.keys() & set(LiveLimits.__struct_fields__):
        try:
            known[name] = getattr(msgspec.convert({name: fields[name]}, LiveLimits, strict=False), name)
        except msgspec.ValidationError:
            continue
    return LiveLimits(**known)


def set_limits(
    client: redis.Redis, model: str, changes: LiveLimits, prefix: str = "", *, afresh: bool = False
) -> None:
    """Set the limits that are not None for the running fleet; ``afresh``: and let go of those set before.

    Raises ``msgspec.ValidationError`` for a value that no limit can have, and redis-py's errors.
    """
    given: dict[Any, Any] = {
        name: value for name, value in msgspec.structs.asdict(changes).items() if value is not None
    }
    msgspec.convert(given, LiveLimits)
    key = settings_key(model, prefix)
    with client.pipeline(transaction=True) as pipe:
        if afresh:
            pipe.delete(key)
        if given:
            pipe.hset(key, mapping=given)
        pipe.execute()


def _chosen(live: int | None, file: int | None) -> int | None:
    return file if live is None else live or None
