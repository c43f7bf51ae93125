"""The board of a model: what the fleet knows of it, for people.

Reading writes nothing: what has lapsed is left to the workers, and is not counted. Every duration is by the
server's clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import floor
from typing import TYPE_CHECKING, Any

import msgspec

from embedq_worker.limiter.exchange import Limits
from embedq_worker.limiter.keys import model_key, settings_key
from embedq_worker.limiter.live import LiveLimits, read_live

if TYPE_CHECKING:
    import redis.asyncio

_SLICES = 240
_SLACK_SLICES = 2
"""As in ``lua/rates.lua``."""
_PARTS = (":settings", ":wants", ":spent", ":tags", ":handed")
"""The hashes beside a model's own."""


class Change(msgspec.Struct, frozen=True):
    """Why the number of slots last changed, and how many seconds ago."""

    why: str
    seconds_ago: float


class Cooling(msgspec.Struct, frozen=True):
    """Nothing is called for so many seconds more, because the service said so or refuses every call."""

    seconds_left: float
    why: str


class Pause(msgspec.Struct, frozen=True):
    """The breaker is open: the model is not called, but for one probe at a time."""

    reason: str
    seconds: float
    """How long it has been paused."""
    next_probe: float
    """Seconds until the next probe may be made; 0: now."""
    is_probing: bool
    """Whether a probe is in flight."""


class Spent(msgspec.Struct, frozen=True):
    """What counts against the limits of the last minute; tokens are estimates until a call has ended."""

    requests: int
    tokens: int


class Counts(msgspec.Struct, frozen=True):
    """Calls that ended since Redis knows the model, and of these: answered with 429, failed, and refused."""

    calls: int
    throttled: int
    failed: int
    refused: int


class ModelBoard(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis knows of a model at one moment. Without any state: zeros and None."""

    model: str
    live: LiveLimits
    slots: int | None
    """Calls that may be in flight; None while that is the configured number."""
    ceiling: int | None
    """The highest number of slots that the service has not refused; None while it has refused none."""
    changed: Change | None
    in_flight: int
    waiting: int
    """Calls that processes want and may not make yet; each tells of 32 a collection and lane at most."""
    processes: int
    """Processes that hold or want a call, and were heard of in the last seconds."""
    cooling: Cooling | None
    paused: Pause | None
    held: float | None
    """Seconds until calls from before Redis lost its memory are over; nothing is called until then."""
    spent: Spent
    counts: Counts

    def slots_under(self, limits: Limits) -> int:
        """Calls that may be in flight where these limits are in force."""
        if self.slots is None or limits.concurrency == "fixed":
            return limits.max_concurrency
        return min(self.slots, limits.max_concurrency)


def read_board(client: redis.Redis, model: str, prefix: str = "", *, minute: float = 60.0) -> ModelBoard:
    """What is known of a model. ``minute`` in seconds, as the workers have it. Raises redis-py's errors."""
    with client.pipeline(transaction=True) as pipe:
        _ask(pipe, model, prefix)
        return _board(model, pipe.execute(), minute)


async def read_boards(
    client: redis.asyncio.Redis, models: Iterable[str], prefix: str = ""
) -> list[ModelBoard]:
    """What is known of some models, through an asynchronous client. Raises redis-py's errors."""
    boards = []
    for model in models:
        async with client.pipeline(transaction=True) as pipe:
            _ask(pipe, model, prefix)
            boards.append(_board(model, await pipe.execute(), 60.0))
    return boards


def _ask(pipe: Any, model: str, prefix: str) -> None:
    """Of either kind of client: what is asked is only noted here."""
    stem = model_key(model, prefix)
    pipe.time()
    pipe.hgetall(stem)
    pipe.hgetall(settings_key(model, prefix))
    pipe.zrange(f"{stem}:leases", 0, -1, withscores=True)
    pipe.zrange(f"{stem}:processes", 0, -1, withscores=True)
    pipe.hgetall(f"{stem}:wants")
    pipe.hgetall(f"{stem}:spent")


def _board(model: str, replies: list[Any], minute: float) -> ModelBoard:
    time, state, settings, leases, processes, wants, spent = replies
    now = time[0] * 1000 + time[1] / 1000
    alive = _current(processes, now)
    return _Notes(_text(state), _current(leases, now), now).board(
        model=model,
        live=read_live(_text(settings)),
        waiting=_wanted(_text(wants), alive),
        processes=len(alive),
        spent=spent_within(_text(spent), now, minute),
    )


def find_models(client: redis.Redis, prefix: str = "") -> list[str]:
    """The models that have state or live limits, by name. Looks at the names of all keys."""
    stem = model_key("", prefix)
    pattern = re.sub(r"([*?\[\\])", r"\\\1", stem) + "*"
    keys = (key.decode() for key in client.scan_iter(match=pattern, count=1_000, _type="HASH"))
    return sorted({_without_part(key.removeprefix(stem)) for key in keys})


def spent_within(fields: Mapping[str, str], now: float, minute: float) -> Spent:
    """Add up the slices of ``<stem>:spent`` that count; ``now`` in milliseconds, ``minute`` in seconds."""
    slice_ = minute * 1000 / _SLICES
    oldest = floor((now - (_SLICES + _SLACK_SLICES) * slice_) / slice_)
    kept = [content.split() for name, content in fields.items() if _is_slice(name) and float(name) >= oldest]
    return Spent(
        requests=max(0, round(sum(float(requests) for requests, _ in kept))),
        tokens=max(0, round(sum(float(tokens) for _, tokens in kept))),
    )


class _Notes:
    """A model's hash, read. ``leases`` are those that have not lapsed; ``now`` in milliseconds."""

    def __init__(self, fields: Mapping[str, str], leases: set[str], now: float) -> None:
        self._fields = fields
        self._leases = leases
        self._now = now

    def board(self, *, live: LiveLimits, **others: Any) -> ModelBoard:
        adapts = live.concurrency != "fixed"
        limit, ceiling = (self._number(name) if adapts else None for name in ("limit", "ceiling"))
        return ModelBoard(
            live=live,
            slots=None if limit is None else max(1, floor(limit + 1e-9)),
            ceiling=None if ceiling is None else floor(ceiling),
            changed=self._change() if adapts else None,
            in_flight=len(self._leases),
            cooling=self._cooling(),
            paused=self._pause(),
            held=self._left("held_until"),
            counts=Counts(*(self._count(name) for name in Counts.__struct_fields__)),
            **others,
        )

    def _number(self, name: str) -> float | None:
        return float(self._fields[name]) if name in self._fields else None

    def _count(self, name: str) -> int:
        return round(self._number(name) or 0)

    def _since(self, name: str) -> float:
        return max(0.0, self._now - (self._number(name) or self._now)) / 1000

    def _left(self, name: str) -> float | None:
        left = (self._number(name) or 0) - self._now
        return left / 1000 if left > 0 else None

    def _change(self) -> Change | None:
        why = self._fields.get("limit_why")
        return None if why is None else Change(why, self._since("limit_at"))

    def _cooling(self) -> Cooling | None:
        left = self._left("cool_until")
        return None if left is None else Cooling(left, self._fields.get("cool_why", ""))

    def _pause(self) -> Pause | None:
        reason = self._fields.get("broken")
        if reason is None:
            return None
        return Pause(
            reason=reason,
            seconds=self._since("broken_at"),
            next_probe=self._left("pause_until") or 0.0,
            is_probing=self._fields.get("probe") in self._leases,
        )


def _current(scores: list[tuple[bytes, float]], now: float) -> set[str]:
    """The members whose time is not over."""
    return {member.decode() for member, until in scores if until > now}


def _wanted(wants: Mapping[str, str], alive: set[str]) -> int:
    """Calls wanted by processes that are alive: ``<lane> <collection> <process>`` → ``<calls> <tokens>``."""
    return sum(int(content.split()[0]) for name, content in wants.items() if name.rpartition(" ")[2] in alive)


def _is_slice(name: str) -> bool:
    return name not in ("first", "requests", "tokens")


def _without_part(name: str) -> str:
    name = name.partition(":services:")[0]
    return next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), name)


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
