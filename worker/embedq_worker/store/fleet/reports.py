"""The fleet: what each worker process reports of itself, and the messages that are in nobody's hands.

A process reports every two seconds (``intake.reporter``). Reading costs one script, whatever is queued.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

import msgspec

from embedq_worker import names
from embedq_worker.script import Script

if TYPE_CHECKING:
    import redis.asyncio

_SCRIPT = Script((files(__package__) / "reports.lua").read_text("utf-8"))
_QUEUE = "in_hand "
"""Before a queue's name in a report's field, whose value is "messages items"."""


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process says of itself, up to two seconds old."""

    process: str
    """A name that no other process ever has."""
    host: str = ""
    pid: int = 0
    version: str = ""
    uptime: float = 0.0
    """Seconds since it began."""
    is_stopping: bool = False
    """It was told to stop, and fetches nothing any more."""
    messages: int = 0
    """Done since it began."""
    items: int = 0
    """Done since it began."""
    items_per_second: float = 0.0
    """Over the last minute."""
    in_hand: dict[str, tuple[int, int]] = {}
    """Messages and items by queue; the items of a message that was not looked into yet count as one."""


class Silent(msgspec.Struct, frozen=True, kw_only=True):
    """A process that has said nothing for 15 seconds: dead, frozen, or of a version that does not report."""

    process: str
    lease: float
    """Seconds for which its lease still holds; below 0 others take its messages over."""
    messages: int
    """Messages in its hands."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The workers as they stand."""

    reports: list[WorkerReport]
    silent: list[Silent]
    suspects: dict[str, int]
    """Messages whose worker died, by queue."""

    def in_hand(self, queue: str) -> int:
        """Messages of a queue that living processes have in hand."""
        return sum(report.in_hand.get(queue, (0, 0))[0] for report in self.reports)


def fields_of(report: WorkerReport) -> dict[str, str]:
    """The report as the fields of its hash in Redis."""
    plain = msgspec.structs.asdict(report)
    queues: dict[str, tuple[int, int]] = plain.pop("in_hand")
    fields = {name: str(value) for name, value in plain.items()}
    return fields | {_QUEUE + queue: f"{messages} {items}" for queue, (messages, items) in queues.items()}


def read_fleet(client: redis.Redis, key_prefix: str = "") -> Fleet:
    """The fleet now. Raises redis-py's errors."""
    return _fleet(_SCRIPT.run(client, *_asked(key_prefix)))


async def read_fleet_async(client: redis.asyncio.Redis, key_prefix: str = "") -> Fleet:
    """Likewise through an asynchronous client."""
    return _fleet(await _SCRIPT.run_async(client, *_asked(key_prefix)))


def _asked(prefix: str) -> tuple[list[str], list[str]]:
    keys = [names.WORKERS, names.DEAD, names.INDEX, names.SUSPECTS]
    return [prefix + key for key in keys], [prefix + names.REPORT]


def _fleet(reply: object) -> Fleet:
    reports, silent, suspects = cast("tuple[list[list[bytes]], list[Any], list[Any]]", reply)
    counted: Counter[str] = Counter()
    for queue, messages in zip(suspects[::2], suspects[1::2], strict=True):
        counted[queue.decode()] += messages
    return Fleet(
        reports=[report for each in reports if (report := _report(_texts(each)))],
        silent=[
            Silent(process=who.decode(), lease=float(left), messages=count) for who, left, count in silent
        ],
        suspects=dict(counted),
    )


def _texts(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _report(fields: Mapping[str, str]) -> WorkerReport | None:
    """None for what is no report; one of another version may have other fields."""
    queues = {
        name.removeprefix(_QUEUE): tuple(value.split())
        for name, value in fields.items()
        if name.startswith(_QUEUE)
    }
    try:
        return msgspec.convert({**fields, "in_hand": queues}, WorkerReport, strict=False)
    except msgspec.ValidationError:
        return None
