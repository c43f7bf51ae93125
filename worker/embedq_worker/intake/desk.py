"""The desk of this process: what the transport, the consumer and the pool share about messages in hand.

Kombu creates channels by class from a connection's options, so that an object cannot be handed to them;
like Celery's own ``celery.worker.state`` the desk is therefore one a process.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from embedq_worker.intake.governor import Governor, Window
from embedq_worker.intake.in_hand import InHand


@dataclass(slots=True)
class Desk:
    """Messages in hand, and the governor that decides what is fetched next."""

    in_hand: InHand = field(default_factory=InHand)
    governor: Governor = field(init=False)

    def __post_init__(self) -> None:
        self.open(Window(messages=2048, items=8192, size=32 << 20))

    def open(self, window: Window) -> None:
        """Set the window of every queue, before the worker starts."""
        self.governor = Governor(window, self.in_hand)

    def record(self, tag: str, items: int) -> None:
        """A message was decoded: settle the room that its items take."""
        size = self.in_hand.size_of(tag)
        queue = self.in_hand.count_items(tag, items)
        if queue is not None:
            self.governor.learn(queue, items, size)


DESK = Desk()
