"""What this process tells Redis of the messages in its hands, and takes into them, besides the fetches.

On the hub's thread, each time one short exchange. Raises the client's errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import redis

from embedq_worker import names
from embedq_worker.intake.desk import DESK
from embedq_worker.intake.scripts import (
    CLAIM_SUSPECTS,
    FETCH,
    GIVE_BACK,
    LEAVE,
    RECORDED,
    TAKE_KILLERS,
    TAKE_SUSPECTS,
)

ACKNOWLEDGEMENTS = 2000
"""Acknowledgements confirmed by one exchange at most."""
_GIVEN_BACK = 1000


class Fetched(NamedTuple):
    """A message that is in hand now."""

    queue: str
    tag: str
    message: bytes


class Hands:
    """Speaks for the process of the desk."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def tell(self) -> None:
        """Acknowledge what is done, and give back what is to go back."""
        self.acknowledge()
        self.give_back(DESK.in_hand.returning)

    def acknowledge(self) -> None:
        """Have every acknowledgement confirmed."""
        while acknowledged := DESK.in_hand.unconfirmed(ACKNOWLEDGEMENTS):
            head = [DESK.process, DESK.next_number(), "0", str(len(acknowledged))]
            FETCH.run(self._client, self.fetch_keys(), head + acknowledged)
            DESK.in_hand.confirm(acknowledged)

    def give_back(self, tags: Sequence[str]) -> None:
        """Put messages back at the front of their queues, the oldest to be fetched first."""
        for start in range(len(tags), 0, -_GIVEN_BACK):
            self._give_back(tags[max(0, start - _GIVEN_BACK) : start])

    def _give_back(self, tags: Sequence[str]) -> None:
        young_first = list(reversed(tags))
        queues = [DESK.in_hand.queue_of(tag) for tag in young_first]
        fixed = (names.UNACKED, names.INDEX, names.ALONE, names.SUSPECTS, names.SUSPECTS_NUMBER)
        pairs = [part for pair in zip(young_first, queues, strict=True) for part in pair]
        GIVE_BACK.run(self._client, self._keys(*fixed, *queues), [DESK.process, *pairs])
        DESK.in_hand.let_go(tags)

    def reconcile(self) -> None:
        """Give back what is recorded in this process's name without its knowing: an answer was lost."""
        keys = self._keys(names.INDEX)
        found = RECORDED.run(self._client, keys, [DESK.process, str(DESK.in_hand.recorded)])
        self.give_back(DESK.in_hand.strays(tag.decode() for tag in cast("list[bytes]", found)))

    def claim_suspects(self, queues: Iterable[str], *, is_idle: bool) -> bool:
        """Whether this process may run suspects of these queues now, and there are any."""
        keys = self._keys(names.ALONE, names.WORKERS, names.SUSPECTS, names.DEAD)
        return bool(CLAIM_SUSPECTS.run(self._client, keys, [DESK.process, str(int(is_idle)), *queues]) == 1)

    def take_suspects(self, queues: Iterable[str]) -> list[Fetched]:
        """The next group of suspects; without one the claim has ended."""
        keys = self._keys(names.UNACKED, names.INDEX, names.WORKERS, names.ALONE, names.SUSPECTS)
        arguments = [DESK.process, DESK.next_number(), *queues]
        return _fetched(TAKE_SUSPECTS.run(self._client, keys, arguments))

    def end_claim(self) -> None:
        """Leave suspects to others."""
        self._client.hdel(self._keys(names.ALONE)[0], DESK.process)

    def take_killer(self) -> list[Fetched]:
        """A message that has killed its worker too often; none when there is none."""
        keys = self._keys(names.UNACKED, names.INDEX, names.WORKERS, names.KILLERS)
        return _fetched(TAKE_KILLERS.run(self._client, keys, [DESK.process, DESK.next_number()]))

    def leave(self) -> None:
        """End the lease, with nothing left in hand."""
        LEAVE.run(self._client, self._keys(names.WORKERS, names.ALONE, names.INDEX), [DESK.process])

    def fetch_keys(self) -> list[str]:
        """The keys that the fetch script takes before the queues."""
        return self._keys(names.UNACKED, names.INDEX, names.WORKERS, names.SUSPECTS, names.KILLERS)

    def _keys(self, *keys: str) -> list[str]:
        return [self._prefix + key for key in keys]


def _fetched(reply: object) -> list[Fetched]:
    flat = cast("list[bytes]", reply)
    return [Fetched(flat[at].decode(), flat[at + 1].decode(), flat[at + 2]) for at in range(0, len(flat), 3)]
