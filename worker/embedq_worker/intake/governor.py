"""How much of each queue may be in hand in this process, and whose turn it is.

Every queue, that is every collection's lane, has a window of its own. A queue without room is not fetched
from, so a slow, limited or paused model never holds up another one. The process as a whole has room for
``WHOLE_WINDOWS`` full windows; when those are used up each queue still has a small part of its own, so that
memory is bounded by the number of queues and nobody waits for another's items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from embedq.contract import queue_parts
from embedq_worker.intake.in_hand import InHand

LANES = ("query", "live", "bulk")
"""A lane is served before the ones after it."""
WHOLE_WINDOWS = 8
"""Full windows that a process has room for."""
SMALL_PART = 16
"""The part of its window that a queue has also in a full process."""
_FIRST_GUESS_ITEMS = 256.0
_FIRST_GUESS_BYTES = 65536.0
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class Window:
    """What of one queue may be in hand: messages, items and bytes."""

    messages: int
    items: int
    size: int

    def part(self, share: int) -> Window:
        """One of so many equal parts, of one message at least."""
        return Window(max(1, self.messages // share), max(1, self.items // share), max(1, self.size // share))


@dataclass(slots=True)
class _Shape:
    """What a message of a queue has been like lately: items and bytes, exponentially smoothed."""

    items: float = _FIRST_GUESS_ITEMS
    size: float = _FIRST_GUESS_BYTES


@dataclass(slots=True)
class Governor:
    """Gives each fetch the room of every queue, in fair turns."""

    window: Window
    in_hand: InHand
    _shapes: dict[str, _Shape] = field(default_factory=dict)
    _turn: int = 0
    _stopped: bool = False

    def stop(self) -> None:
        """Fetch nothing any more: the worker is shutting down."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether the worker is shutting down."""
        return self._stopped

    def learn(self, queue: str, items: int, size: int) -> None:
        """A message of ``queue`` had this many items and bytes."""
        shape = self._shapes.setdefault(queue, _Shape())
        shape.items += _SMOOTHING * (items - shape.items)
        shape.size += _SMOOTHING * (size - shape.size)

    def room(self, queue: str) -> int:
        """How many messages of ``queue`` may be fetched now.

        A window with nothing in hand takes at least one message, so that one larger than the window still
        runs.
        """
        if self._stopped:
            return 0
        load = self.in_hand.load(queue)
        shape = self._shapes.get(queue) or _Shape()
        window = self.window.part(SMALL_PART) if self._is_crowded else self.window
        room = min(
            window.messages - load.messages,
            int((window.items - load.items) / max(shape.items, 1.0)),
            int((window.size - load.size) / max(shape.size, 1.0)),
        )
        return max(room, 0 if load.messages else 1)

    @property
    def _is_crowded(self) -> bool:
        total = self.in_hand.total
        return (
            total.items >= WHOLE_WINDOWS * self.window.items or total.size >= WHOLE_WINDOWS * self.window.size
        )

    def has_room(self, queues: Sequence[str]) -> bool:
        """Whether any of ``queues`` has room."""
        return any(self.room(queue) for queue in queues)

    def next_fetch(self, queues: Sequence[str]) -> list[tuple[str, int]]:
        """The queues that have room, with it, in the order of this turn.

        Lane before lane, then round robin.
        """
        open_queues = [(queue, room) for queue in queues if (room := self.room(queue))]
        if len(open_queues) > 1:
            self._turn += 1
            start = self._turn % len(open_queues)
            open_queues = open_queues[start:] + open_queues[:start]
            open_queues.sort(key=lambda entry: lane_rank(entry[0]))
        return open_queues


def lane_rank(queue: str) -> int:
    """The rank of a queue's lane: 0 is served first."""
    return LANES.index(queue_parts(queue)[1])
