"""The desk of this process: what the transport, the consumer and the pool share about messages in hand.

Kombu creates channels by class from a connection's options, so that an object cannot be handed to them;
like Celery's own ``celery.worker.state`` the desk is therefore one a process.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from embedq_worker.intake.governor import Governor, Window
from embedq_worker.intake.in_hand import InHand
from embedq_worker.intake.isolation import Isolation
from embedq_worker.intake.tally import Tally


def _process() -> str:
    """A name that no other process ever has; without a colon, which ends it in a tag."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def _nothing() -> None:
    """Until the pool has said otherwise."""


def _holds_nothing(_queue: str) -> bool:
    """Until the pool has said otherwise."""
    return False


def _bury_nothing(_tag: str, _queue: str, _message: bytes) -> None:
    """Until the pool has said otherwise."""


@dataclass(slots=True)
class Desk:
    """Messages in hand, the governor that decides what is fetched next, and who is told of what.

    ``release``: have what waits in the engine given back. ``hurry``: renew the lease now. ``bury_killer``:
    make a dead letter of a message, by its tag, queue and bytes. ``is_held``: whether texts of a queue wait
    for money, or for a paused model.
    """

    process: str = field(default_factory=_process)
    in_hand: InHand = field(default_factory=InHand)
    isolation: Isolation = field(default_factory=Isolation)
    tally: Tally = field(default_factory=Tally)
    governor: Governor = field(init=False)
    release: Callable[[], None] = _nothing
    hurry: Callable[[], None] = _nothing
    bury_killer: Callable[[str, str, bytes], None] = _bury_nothing
    is_held: Callable[[str], bool] = _holds_nothing
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.open(Window(messages=2048, items=8192, size=32 << 20))

    def open(self, window: Window) -> None:
        """Set the window of every queue, before the worker starts."""
        self.governor = Governor(window, self.in_hand)

    def next_number(self) -> str:
        """The number of a fetch: never given twice, of a fixed width."""
        return f"{next(self._numbers):010d}"

    def record(self, tag: str, items: int) -> None:
        """A message was decoded: settle the room that its items take."""
        size = self.in_hand.size_of(tag)
        queue = self.in_hand.count_items(tag, items)
        if queue is not None:
            self.governor.learn(queue, items, size)


DESK = Desk()
