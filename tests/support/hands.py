"""A worker process as Redis sees it: the scripts of the intake, called one by one, without a worker."""

from __future__ import annotations

import time
from typing import Any, cast

import redis

from embedq_worker import names
from embedq_worker.intake.heartbeat import DEATHS
from embedq_worker.intake.scripts import (
    BEAT,
    CLAIM_SUSPECTS,
    FETCH,
    GIVE_BACK,
    LEAVE,
    TAKE_KILLERS,
    TAKE_OVER,
    TAKE_SUSPECTS,
)
from embedq_worker.script import Script

LEASE = 60.0
"""Seconds; nobody waits for it, a death is told."""


class FakeWorker:
    """Speaks as the process ``name``; what it was given is in ``held``, tag to message."""

    def __init__(self, broker: redis.Redis, name: str, queue: str = "embedq.docs") -> None:
        self.name = name
        self.held: dict[str, bytes] = {}
        self._broker = broker
        self._queue = queue
        self._number = 0

    def beat(self, life: float = LEASE, silence: float = LEASE) -> tuple[str, bool]:
        """Renew; the status, and whether somebody is to be taken over."""
        keys = (
            names.WORKERS,
            names.DEAD,
            names.TAKEN_OVER + self.name,
            names.LAST_BEAT,
            names.AMNESTY,
        )
        status, others = cast(
            "tuple[bytes, int]", self._run(BEAT, keys, [self.name, str(life), str(silence)])
        )
        return status.decode(), bool(others)

    def fetch(self, room: int, acknowledged: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Take up to so many messages."""
        keys = (names.UNACKED, names.INDEX, names.WORKERS, names.SUSPECTS, names.KILLERS, self._queue)
        head = [self.name, self._next(), str(1 << 20), str(len(acknowledged)), *acknowledged]
        reply = cast("list[Any]", self._run(FETCH, keys, [*head, self._queue, str(room)]))
        return self._take(reply[3:])

    def acknowledge_all(self) -> None:
        """Everything in hand is done."""
        self.fetch(0, tuple(self.held))
        self.held.clear()

    def give_back_all(self) -> None:
        """Everything in hand goes back."""
        tags = sorted(self.held, reverse=True)
        fixed = (names.UNACKED, names.INDEX, names.ALONE, names.SUSPECTS, names.SUSPECTS_NUMBER)
        pairs = [part for tag in tags for part in (tag, self._queue)]
        self._run(GIVE_BACK, (*fixed, *[self._queue] * len(tags)), [self.name, *pairs])
        self.held.clear()

    def die(self) -> None:
        """Its lease lapses now."""
        self._broker.zadd(names.WORKERS, {self.name: time.time() - 1})
        self._broker.delete(names.AMNESTY)
        self.held.clear()

    def take_over(self) -> list[tuple[int, str]]:
        """Take over all that is to be taken over; how many messages each step took, and what they became."""
        steps = []
        while step := self.take_over_once():
            steps.append(step)
        return steps

    def take_over_once(self) -> tuple[int, str] | None:
        """One step, if there is any."""
        arguments = [names.TAKEN_OVER, str(2 << 20), str(DEATHS)]
        reply = self._run(TAKE_OVER, names.TAKE_OVER_KEYS, arguments)
        if not reply:
            return None
        _, count, what = cast("tuple[bytes, int, bytes]", reply)
        return count, what.decode()

    def claim(self, *, is_idle: bool = False) -> bool:
        """Whether it may run suspects."""
        keys = (names.ALONE, names.WORKERS, names.SUSPECTS, names.DEAD)
        return self._run(CLAIM_SUSPECTS, keys, [self.name, str(int(is_idle)), self._queue]) == 1

    def take_suspects(self) -> dict[str, bytes]:
        """The next group."""
        keys = (names.UNACKED, names.INDEX, names.WORKERS, names.ALONE, names.SUSPECTS)
        return self._take(
            cast("list[Any]", self._run(TAKE_SUSPECTS, keys, [self.name, self._next(), self._queue]))
        )

    def take_killer(self) -> bytes | None:
        """A killer's message."""
        keys = (names.UNACKED, names.INDEX, names.WORKERS, names.KILLERS)
        taken = self._take(cast("list[Any]", self._run(TAKE_KILLERS, keys, [self.name, self._next()])))
        return next(iter(taken.values()), None)

    def leave(self) -> bool:
        """End the lease; whether nothing was in its name."""
        return self._run(LEAVE, (names.WORKERS, names.ALONE, names.INDEX), [self.name]) == 1

    def _take(self, flat: list[Any]) -> dict[str, bytes]:
        taken = {flat[at + 1].decode(): flat[at + 2] for at in range(0, len(flat), 3)}
        self.held.update(taken)
        return taken

    def _next(self) -> str:
        self._number += 1
        return f"{self._number:010d}"

    def _run(self, script: Script, keys: tuple[str, ...], arguments: list[str]) -> object:
        return script.run(self._broker, list(keys), arguments)
