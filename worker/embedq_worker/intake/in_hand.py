"""The messages that this process holds, and what of them Redis has not yet been told.

It outlives a connection: a message stays in hand while its worker works on it, whatever becomes of the
socket, and an acknowledgement is sent again until a reply confirms it. Used on the hub's thread only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Held:
    """One message in hand. ``size`` in bytes as fetched; ``items`` is 1 until the message was decoded."""

    queue: str
    size: int
    items: int = 1


@dataclass(slots=True)
class Load:
    """What of one queue is in hand: messages, items and bytes."""

    messages: int = 0
    items: int = 0
    size: int = 0


@dataclass(slots=True)
class InHand:
    """Messages in hand by tag, with their load by queue."""

    _held: dict[str, Held] = field(default_factory=dict)
    _unconfirmed: dict[str, None] = field(default_factory=dict)
    _returning: dict[str, None] = field(default_factory=dict)
    _loads: defaultdict[str, Load] = field(default_factory=lambda: defaultdict(Load))
    total: Load = field(default_factory=Load)
    """What of all queues is in hand."""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, tag: str) -> bool:
        return tag in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in hand, and Redis knows it."""
        return not self._held and not self._unconfirmed

    @property
    def recorded(self) -> int:
        """How many messages Redis has recorded in this process's name, if it heard all that was said."""
        return len(self._held) + len(self._unconfirmed)

    def load(self, queue: str) -> Load:
        """What of ``queue`` is in hand."""
        return self._loads[queue]

    @property
    def loads(self) -> dict[str, tuple[int, int]]:
        """Messages and items in hand by queue, without those that have none. From any thread."""
        return {
            queue: (load.messages, load.items) for queue, load in list(self._loads.items()) if load.messages
        }

    def take(self, tag: str, queue: str, size: int) -> None:
        """A message was fetched."""
        self._held[tag] = Held(queue, size)
        self._add(queue, messages=1, items=1, size=size)

    def count_items(self, tag: str, items: int) -> str | None:
        """A message was decoded and has ``items`` items; returns its queue, or None if it is not in hand."""
        held = self._held.get(tag)
        if held is None:
            return None
        self._add(held.queue, items=items - held.items)
        held.items = items
        return held.queue

    def settle(self, tag: str) -> None:
        """A message is done: its room is free at once, its acknowledgement waits for the next fetch."""
        if self._drop(tag) is not None:
            self._unconfirmed[tag] = None

    @property
    def has_news(self) -> bool:
        """Whether there is anything to tell Redis."""
        return bool(self._unconfirmed or self._returning)

    def unconfirmed(self, limit: int) -> list[str]:
        """Up to ``limit`` acknowledgements that Redis has not confirmed, oldest first."""
        return [tag for tag, _ in zip(self._unconfirmed, range(limit), strict=False)]

    def confirm(self, tags: Iterable[str]) -> None:
        """Redis confirmed these acknowledgements."""
        for tag in tags:
            self._unconfirmed.pop(tag, None)

    def give_back(self, tag: str) -> None:
        """A message is to go back; it stays in hand until it is let go."""
        if tag in self._held:
            self._returning[tag] = None

    @property
    def returning(self) -> list[str]:
        """The messages that are to go back, in the order in which they were fetched."""
        return sorted(self._returning, key=age)

    def let_go(self, tags: Iterable[str]) -> None:
        """These messages are back."""
        for tag in tags:
            self._returning.pop(tag, None)
            self._drop(tag)

    def strays(self, recorded: Iterable[str]) -> list[str]:
        """Those of the tags recorded in this process's name that it knows nothing of."""
        return [tag for tag in recorded if tag not in self._held and tag not in self._unconfirmed]

    def queue_of(self, tag: str) -> str:
        """The queue that a message came from."""
        return tag.partition(":")[2].rpartition(":")[0]

    def size_of(self, tag: str) -> int:
        """The bytes of a message in hand, 0 if it is not."""
        held = self._held.get(tag)
        return held.size if held is not None else 0

    def _drop(self, tag: str) -> Held | None:
        held = self._held.pop(tag, None)
        if held is not None:
            self._add(held.queue, messages=-1, items=-held.items, size=-held.size)
        return held

    def _add(self, queue: str, *, messages: int = 0, items: int = 0, size: int = 0) -> None:
        for load in (self._loads[queue], self.total):
            load.messages += messages
            load.items += items
            load.size += size


def age(tag: str) -> str:
    """What a tag, ``<process>:<queue>:<fetch>.<message>``, ends in: fixed width, so that it sorts by age."""
    return tag.rpartition(":")[2]
