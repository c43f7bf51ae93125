"""What is enqueued: planned from the seed alone, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from embedq.contract import Lane
from tests.chaos.checker import Write

COLLECTIONS = ("docs", "notes")
MARKER = "poison"
"""The API refuses texts that contain it."""
_POISON_EVERY = 500
"""One item in so many is poison."""
_MOST_VERSIONS = 6


@dataclass(frozen=True)
class Enqueue:
    """One call of a producer: items of one collection and lane."""

    collection: str
    lane: Lane
    writes: Sequence[Write]


def plan(seed: int, items: int) -> list[Enqueue]:
    """The calls that enqueue so many items, in order.

    Most ids are written once; the others have several versions, in any order and far apart, some of them
    deletes, and some that repeat the text before them.
    """
    chance = random.Random(f"load {seed}")
    calls: list[Enqueue] = []
    for number, collection in enumerate(COLLECTIONS):
        share = items * (number + 1) // len(COLLECTIONS) - items * number // len(COLLECTIONS)
        writes = list(_writes(collection, share, chance))
        chance.shuffle(writes)
        calls += _packed(collection, writes, chance)
    chance.shuffle(calls)
    return calls


def single(writes: Sequence[Write], lane: Lane = "live") -> list[Enqueue]:
    """One call for each write."""
    return [Enqueue(write.collection, lane, [write]) for write in writes]


def _writes(collection: str, items: int, chance: random.Random) -> Iterator[Write]:
    """So many writes."""
    left, number = items, 0
    while left:
        item_id = str(number)
        if number % _POISON_EVERY == _POISON_EVERY // 2 or (number == 1 and items > 1):
            yield Write(
                collection, item_id, 1, f"{_text(collection, item_id, 1, chance)} {MARKER}", poison=True
            )
            left -= 1
        else:
            versions = 1 if chance.random() < 0.8 else min(left, chance.randint(2, _MOST_VERSIONS))
            yield from _versions(collection, item_id, versions, chance)
            left -= versions
        number += 1


def _versions(collection: str, item_id: str, count: int, chance: random.Random) -> Iterator[Write]:
    """The versions of one id. A delete is never the only one, and a repeat has something to repeat."""
    text: str | None = None
    for number in range(count):
        version = 1 + 10 * number + chance.randrange(10)
        draw = chance.random()
        if count > 1 and draw < 0.15:
            yield Write(collection, item_id, version, None)
            continue
        if text is None or draw > 0.3:
            text = _text(collection, item_id, version, chance)
        yield Write(collection, item_id, version, text)


def _text(collection: str, item_id: str, version: int, chance: random.Random) -> str:
    """A text that no other version of any id has."""
    return f"{collection} {item_id} as of version {version}" + " and so on" * chance.randrange(20)


def _packed(collection: str, writes: Sequence[Write], chance: random.Random) -> Iterator[Enqueue]:
    """Calls of many sizes, most of them for one item."""
    start = 0
    while start < len(writes):
        size = chance.choice(
            (1, 1, 1, 1, 1, 1, chance.randint(2, 20), chance.randint(2, 20), chance.randint(50, 256))
        )
        lane: Lane = "bulk" if size > 20 or chance.random() < 0.3 else "live"
        yield Enqueue(collection, lane, writes[start : start + size])
        start += size
