"""The fetches of a channel, one after the other: what each asks for, and what its reply brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from embedq_worker.intake.desk import DESK
from embedq_worker.intake.hands import ACKNOWLEDGEMENTS, Fetched, Hands
from embedq_worker.intake.scripts import FETCH

FETCH_BYTES = 2 << 20
"""A fetch ends here.

50 messages of 1.4 MB in one script blocked the server, and the limiter with it, for 371 ms.
"""
FETCH_MESSAGES = 256
"""Messages of one queue in one fetch: more would hold the hub, and with it the completions, too long."""
PRIORITIES = (3, 6, 9)
"""Where stock clients put messages of a priority above 0: lists of their own, looked at once in a while."""
PRIORITIES_EVERY = 20
"""Fetches between two looks at them."""


class Catch(NamedTuple):
    """What one fetch brought.

    ``is_leased``: whether the process has a lease, without which it is given nothing. ``suspects`` and
    ``killers``: how many groups and messages of these wait for somebody.
    """

    is_leased: bool
    suspects: int
    killers: int
    messages: list[Fetched]


class Fetches:
    """One is composed, sent and read before the next. ``separator`` stands before a priority in a key."""

    def __init__(self, hands: Hands, prefix: str, separator: str) -> None:
        self._hands = hands
        self._prefix = prefix
        self._separator = separator
        self._number = 0
        self._queues: list[str] = []
        self._acknowledged: list[str] = []

    def command(self, queues: Sequence[str]) -> list[object]:
        """The next one: for those of ``queues`` that have room, with acknowledgements to be confirmed."""
        rooms = self._with_priorities([] if DESK.isolation.is_on else DESK.governor.next_fetch(queues))
        self._queues = [queue.partition(self._separator)[0] for queue, _ in rooms]
        self._acknowledged = DESK.in_hand.unconfirmed(ACKNOWLEDGEMENTS)
        keys = [*self._hands.fetch_keys(), *(self._prefix + queue for queue, _ in rooms)]
        arguments: list[object] = [DESK.process, DESK.next_number(), FETCH_BYTES]
        arguments += (len(self._acknowledged), *self._acknowledged)
        for name, (_, room) in zip(self._queues, rooms, strict=True):
            arguments += (name, min(room, FETCH_MESSAGES))
        return ["EVALSHA", FETCH.digest, len(keys), *keys, *arguments]

    def read(self, reply: Sequence[Any]) -> Catch:
        """What the one that was sent last brought; its acknowledgements are confirmed."""
        DESK.in_hand.confirm(self._acknowledged)
        is_leased, suspects, killers, *flat = reply
        messages = [
            Fetched(self._queues[flat[at] - 1], flat[at + 1].decode(), flat[at + 2])
            for at in range(0, len(flat), 3)
        ]
        return Catch(bool(is_leased), suspects, killers, messages)

    def _with_priorities(self, rooms: list[tuple[str, int]]) -> list[tuple[str, int]]:
        self._number += 1
        if self._number % PRIORITIES_EVERY:
            return rooms
        priorities = [f"{queue}{self._separator}{step}" for queue, _ in rooms for step in PRIORITIES]
        return rooms + [(queue, 1) for queue in priorities]
