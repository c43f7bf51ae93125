"""What is done to the installation while it works, at random times that the seed decides."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from tests.chaos.billing import Disturbance
from tests.chaos.history import History
from tests.chaos.options import Options
from tests.chaos.world import World
from tests.support.proxy import Proxy

Act = Callable[[], None]
_TICK = 0.02
_STALL = (0.05, 0.2)
"""Seconds: long enough for a message to be on its way, too short for a lease to lapse."""
_LEAST_OF_LEASE = 0.4
"""A worker that is stopped for longer than this part of its lease may lose what it holds: the last renewal is
some time ago."""


class Workers(Protocol):
    """Who is killed and stopped; each of them has a ``key``."""

    def running(self) -> Sequence[Any]:
        """Those to whom something can be done."""

    def kill(self, member: Any, /) -> float:
        """Returns the time of it."""

    def stop(self, member: Any, /) -> float:
        """Returns the time of it."""

    def resume(self, member: Any, /) -> float:
        """Returns the time of it."""


class Deeds:
    """Does them in a thread of its own, from ``start`` to ``stop``, which undoes what is half done."""

    def __init__(self, world: World, crew: Workers, history: History, options: Options) -> None:
        self._world = world
        self._crew = crew
        self._history = history
        self._options = options
        self._agenda: list[tuple[float, int, Act]] = []
        self._order = count()
        self._undo: dict[str, Act] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deeds", daemon=True)
        self._error: Exception | None = None
        self.disturbances: list[Disturbance] = []

    def start(self) -> None:
        """Begin."""
        for deed in self._deeds():
            if deed.every:
                self._repeat(deed)
        self._thread.start()

    def stop(self) -> None:
        """End it, and bring back what is away. Raises what a deed raised."""
        self._ended.set()
        self._thread.join(60)
        for name in list(self._undo):
            self._bring_back(name)
        if self._error is not None:
            raise self._error

    @property
    def is_over(self) -> bool:
        """Whether it has ended, be it by an error."""
        return not self._thread.is_alive()

    def _deeds(self) -> list[_Deed]:
        options, seed = self._options, self._options.seed
        deeds: list[tuple[str, float, Callable[[random.Random], None]]] = [
            ("kill", options.kill_every, self._kill),
            ("stop", options.stop_every, self._stop),
            ("valkey", options.valkey_every, self._restart_valkey),
            ("postgres", options.postgres_every, self._restart_postgres),
            (
                "cut broker",
                options.cut_every,
                lambda chance: self._cut("broker", self._world.broker_proxy, chance),
            ),
            (
                "cut database",
                options.cut_every,
                lambda chance: self._cut("database", self._world.database_proxy, chance),
            ),
        ]
        return [_Deed(name, every, do, random.Random(f"{name} {seed}")) for name, every, do in deeds]

    def _run(self) -> None:
        try:
            while not self._ended.wait(_TICK):
                while self._agenda and self._agenda[0][0] <= time.monotonic():
                    heapq.heappop(self._agenda)[2]()
        except Exception as error:
            self._error = error

    def _later(self, seconds: float, act: Act) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._order), act))

    def _repeat(self, deed: _Deed) -> None:
        def act() -> None:
            deed.do(deed.chance)
            self._repeat(deed)

        self._later(deed.every * deed.chance.uniform(0.5, 1.5), act)

    def _bring_back_later(self, name: str, seconds: float, undo: Act) -> None:
        self._undo[name] = undo
        self._later(seconds, lambda: self._bring_back(name))

    def _bring_back(self, name: str) -> None:
        if (undo := self._undo.pop(name, None)) is not None:
            undo()

    def _kill(self, chance: random.Random) -> None:
        stall = chance.random() < self._options.strand
        seconds = chance.uniform(*_STALL)
        if running := self._crew.running():
            member = chance.choice(running)
            if stall:
                self._world.broker_proxy.stall()
                self._ended.wait(seconds)
            at = self._crew.kill(member)
            self._world.broker_proxy.resume()
            self.disturbances.append(Disturbance(member.key, at, at))

    def _stop(self, chance: random.Random) -> None:
        seconds = self._options.lease * chance.uniform(0.1, 2.0)
        if running := self._crew.running():
            member = chance.choice(running)
            at = self._crew.stop(member)
            self._bring_back_later(member.key, seconds, lambda: self._resume(member, at))

    def _resume(self, member: Any, stopped_at: float) -> None:
        now = self._crew.resume(member)
        if now - stopped_at > _LEAST_OF_LEASE * self._options.lease:
            self.disturbances.append(Disturbance(member.key, stopped_at, now))

    def _restart_valkey(self, chance: random.Random) -> None:
        kill, seconds = chance.random() < 0.5, chance.uniform(0, self._options.downtime)
        if "valkey" not in self._undo:
            self._history.note("valkey stop", killed=kill)
            self._world.stop_valkey(kill=kill)
            self._bring_back_later("valkey", seconds, self._start_valkey)

    def _start_valkey(self) -> None:
        self._world.start_valkey()
        self._history.note("valkey start")

    def _restart_postgres(self, chance: random.Random) -> None:
        seconds = chance.uniform(0, self._options.downtime)
        if "postgres" not in self._undo:
            self._history.note("postgres stop")
            self._world.stop_postgres()
            self._bring_back_later("postgres", seconds, self._start_postgres)

    def _start_postgres(self) -> None:
        self._world.start_postgres()
        self._history.note("postgres start")

    def _cut(self, name: str, proxy: Proxy, chance: random.Random) -> None:
        """Mostly one connection in the middle of a message, of any size; sometimes all at once."""
        if chance.random() < 0.2:
            proxy.cut()
            self._history.note(f"cut {name}", after="all")
        else:
            size = int(10 ** chance.uniform(0, 5))
            proxy.cut_after(size)
            self._history.note(f"cut {name}", after=size)


@dataclass
class _Deed:
    """What is done, every so many seconds in the mean, with numbers of its own."""

    name: str
    every: float
    do: Callable[[random.Random], None]
    chance: random.Random = field(repr=False)
