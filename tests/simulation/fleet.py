"""Worker processes that come, go and stop for a while."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from functools import partial

from embedq.contract import Lane
from embedq_worker.limiter.exchange import Flow, Handed
from tests.simulation.agenda import Action, Agenda
from tests.simulation.desk import Desk
from tests.simulation.server import Server
from tests.simulation.world import Work, World

_MAILBOX_LIFE = 10.0
"""Seconds that a mailbox is kept for, as ``exchange.lua`` does."""
_LOOK = 2.0
"""Seconds that one look into the mailbox waits in the server, as in ``limiter.py``."""


class Process:
    """A worker process. What happens to it while it is stopped happens when it goes on."""

    def __init__(self, fleet: Fleet, name: str, worlds: Sequence[World]) -> None:
        self.fleet = fleet
        self.name = name
        self.is_dead = self._is_stopped = False
        self._later: list[Action] = []
        self._mailbox: deque[tuple[float, Handed]] = deque()
        self._looks_since: float | None = None
        self.desks = {world.name: Desk(self, world) for world in worlds}
        for desk in self.desks.values():
            desk.fetch()

    @property
    def is_running(self) -> bool:
        """Whether it is neither dead nor stopped."""
        return not (self.is_dead or self._is_stopped)

    def when_running(self, action: Action) -> None:
        """Do it now, or when the process goes on."""
        if self._is_stopped:
            self._later.append(action)
        elif not self.is_dead:
            action()

    def post(self, handed: Handed) -> None:
        """Something is in the mailbox."""
        self._mailbox.append((self.fleet.agenda.now, handed))
        if self.is_running:
            self.look_into_mailbox()

    def look_into_mailbox(self) -> None:
        """Take what is there, while anything is wanted."""
        waits = any(desk.waits for desk in self.desks.values())
        now = self.fleet.agenda.now
        if self._looks_since is not None:
            self.fleet.looks += int((now - self._looks_since) / _LOOK)
        while waits and self._mailbox:
            at, handed = self._mailbox.popleft()
            if at + _MAILBOX_LIFE > now:
                self.fleet.looks += 1
                self.desks[handed.model].hand(handed)
        if waits and (self._looks_since is None or now - self._looks_since >= _LOOK):
            self.fleet.looks += self._looks_since is None
            self._looks_since = now
        elif not waits:
            self._looks_since = None

    def kill(self) -> None:
        """SIGKILL: its leases stay."""
        self.is_dead = True
        for desk in self.desks.values():
            desk.give_back()

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so much later."""
        self._is_stopped = True
        for desk in self.desks.values():
            desk.abandon()
        self.fleet.agenda.after(seconds, self._go_on)

    def _go_on(self) -> None:
        if self.is_dead:
            return
        self._is_stopped = False
        later, self._later = self._later, []
        for action in later:
            action()
        self.look_into_mailbox()
        for desk in self.desks.values():
            desk.arm()


class Fleet:
    """``lease`` in seconds; ``in_hand``: requests of one flow that a process holds;
    ``loss``: part of the exchanges that fail; ``cost``: see ``Server``.
    """

    def __init__(
        self,
        url: str,
        seed: int,
        *,
        lease: float = 30.0,
        in_hand: int = 16,
        loss: float = 0.0,
        cost: float = 0.0001,
    ) -> None:
        self.agenda = Agenda()
        self.rng = random.Random(seed)
        self.lease = lease
        self.in_hand = in_hand
        self.in_hand_of: dict[str, int] = {}
        """Where a process holds another number."""
        self.loss = loss
        self.looks = 0
        """Looks into mailboxes, as commands that real processes would have sent."""
        self.server = Server(url, self.agenda, self.rng, hand=self._hand, cost=cost)
        self.processes: dict[str, Process] = {}
        self._born = 0

    def start(self, worlds: Sequence[World]) -> Process:
        """One process more, that serves these models."""
        self._born += 1
        process = Process(self, f"p-{self._born:032x}", worlds)
        self.processes[process.name] = process
        return process

    def start_all(self, number: int, worlds: Sequence[World], within: float = 1.0) -> None:
        """So many, one after the other."""
        for at in range(number):
            self.agenda.after(within * at / number, partial(self.start, worlds))

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.kill()
        del self.processes[process.name]
        for world in (desk.world for desk in process.desks.values()):
            self.share_out(world)

    def share_out(self, world: World) -> None:
        """All processes look into the queues."""
        desks = [
            p.desks[world.name] for p in self.processes.values() if world.name in p.desks and p.is_running
        ]
        self.rng.shuffle(desks)
        for desk in desks:
            if not any(queue.waiting for queue in world.queues.values()):
                return
            desk.fetch()

    def any_process(self) -> Process:
        """One that runs."""
        return self.rng.choice([process for process in self.processes.values() if process.is_running])

    def arrivals(
        self, world: World, lane: Lane, collection: str, rate: float, among: Sequence[Process] = ()
    ) -> None:
        """From now on so many requests a second arrive, at random times, at any process of those."""
        flow = Flow(lane, collection)

        def arrive() -> None:
            world.queues[flow].unfinished += 1
            process = self.rng.choice(among) if among else self.any_process()
            process.desks[world.name].add(Work(flow, self.agenda.now))
            self.agenda.after(self.rng.expovariate(rate), arrive)

        self.agenda.after(self.rng.expovariate(rate), arrive)

    def loop_delay(self) -> float:
        """Seconds until an event loop comes to something."""
        return self.rng.expovariate(1 / 0.0003)

    def way(self) -> float:
        """Seconds from here to the service or back."""
        return 0.005 + self.rng.expovariate(1 / 0.005)

    def _hand(self, name: str, handed: Handed) -> None:
        if name in self.processes:
            self.processes[name].post(handed)
