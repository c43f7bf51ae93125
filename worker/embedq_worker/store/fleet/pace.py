"""The pace of the fleet: items and messages that each collection got done, minute by minute.

Workers count (``intake.reporter``). Queries are left out: nobody waits for their backlog to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, cast

import msgspec

from embedq_worker import names
from embedq_worker.script import Script

if TYPE_CHECKING:
    import redis.asyncio

_SCRIPT = Script((files(__package__) / "pace.lua").read_text("utf-8"))
KEPT = 900
"""Seconds that a minute is kept."""
_MINUTES = KEPT // 60
_RATE_MINUTES = 4
"""Minutes over which a rate is taken, the present one among them."""
_LEAST = 10.0
"""Seconds that a rate is taken over at least."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Of one collection: ``items`` and ``messages`` done in each minute, the present one first."""

    items: tuple[int, ...] = ()
    messages: tuple[int, ...] = ()
    seconds: float = 0.0
    """What the present minute has lasted."""

    @property
    def items_per_second(self) -> float:
        """Over the last three to four minutes, or since it began to go on within these."""
        recent = list(self.items[:_RATE_MINUTES])
        while recent and not recent[-1]:
            recent.pop()
        if not recent:
            return 0.0
        return sum(recent) / max(_LEAST, self.seconds + 60 * (len(recent) - 1))

    @property
    def items_per_message(self) -> float | None:
        """The mean of the last quarter of an hour; None where nothing was done in it."""
        return sum(self.items) / sum(self.messages) if any(self.messages) else None


def read_pace(client: redis.Redis, key_prefix: str = "") -> dict[str, Pace]:
    """The pace of each collection of which anything was done lately. Raises redis-py's errors."""
    reply = _SCRIPT.run(client, [], [key_prefix + names.PACE, str(_MINUTES)])
    seconds, *minutes = cast("tuple[bytes, list[bytes]]", reply)
    return _paces(float(seconds), [_counts(minute) for minute in minutes])


def _counts(flat: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}


def _paces(seconds: float, minutes: Sequence[dict[str, int]]) -> dict[str, Pace]:
    collections = {name.partition(" ")[0] for minute in minutes for name in minute}
    return {
        collection: Pace(
            items=tuple(minute.get(f"{collection} items", 0) for minute in minutes),
            messages=tuple(minute.get(f"{collection} messages", 0) for minute in minutes),
            seconds=seconds,
        )
        for collection in collections
    }
