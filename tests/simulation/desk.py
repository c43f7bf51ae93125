"""One process's side of one model: what its gate and its dispatcher do."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from embedq_worker.limiter.exchange import CallOutcome, Flow, Grant, Handed, Reply, Request, Verdict, Want
from embedq_worker.limiter.position import Position
from tests.simulation.service import Answer
from tests.simulation.world import Work, World

if TYPE_CHECKING:
    from tests.simulation.fleet import Process

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_VERDICTS: dict[int, Verdict] = {200: "answered", 401: "refused", 429: "throttled", 503: "overloaded"}


@dataclass(slots=True, eq=False)
class Call:
    """One call of the API."""

    grant: Grant
    work: Work
    is_live: bool = True
    """Whether its process was neither killed nor stopped since it was granted."""


class Desk:
    """Sits between a position, the server and the service, on virtual time."""

    def __init__(self, process: Process, world: World) -> None:
        self.world = world
        self.waits = False
        self.calls: dict[str, Call] = {}
        self._fleet = process.fleet
        self._process = process
        self._agenda = process.fleet.agenda
        self.position = Position(
            process.name, world.name, world.limits, lease=process.fleet.lease, clock=lambda: self._agenda.now
        )
        self._hand: defaultdict[Flow, deque[Work]] = defaultdict(deque)
        self._talks = False
        self._armed_at = inf
        self._alarm = 0

    def fetch(self) -> None:
        """Take from the queues what there is room for."""
        room = self._fleet.in_hand_of.get(self._process.name, self._fleet.in_hand)
        for flow, queue in self.world.queues.items():
            hand = self._hand[flow]
            while queue.waiting > 0 and len(hand) < room:
                queue.waiting -= 1
                hand.append(Work(flow, self._agenda.now))
            self._say(flow)
        self.arm()

    def add(self, work: Work, *, first: bool = False) -> None:
        """Texts arrive, or are to be tried again."""
        hand = self._hand[work.flow]
        (hand.appendleft if first else hand.append)(work)
        self._say(work.flow)
        self.arm()

    def hand(self, handed: Handed) -> None:
        """Something came through the mailbox."""
        self.position.hand(handed)
        self.arm()

    def abandon(self) -> None:
        """The process was stopped: its calls go on, their leases may lapse."""
        for call in self.calls.values():
            if call.is_live:
                call.is_live = False
                self.world.audit.ended()

    def give_back(self) -> None:
        """The process is dead; its messages go back to their queues, here at once, not after minutes."""
        self.abandon()
        for flow, hand in self._hand.items():
            self.world.queues[flow].waiting += len(hand)
        for call in self.calls.values():
            self.world.queues[call.work.flow].waiting += 1

    def arm(self) -> None:
        """Be there for the next exchange; the event loop comes to it a little later."""
        if self._talks or not self._process.is_running:
            return
        due = self.position.due_at()
        when = max(due, self._agenda.now + self._fleet.loop_delay())
        if when == inf or self._armed_at <= when:
            return
        self._armed_at = when
        self._alarm += 1
        self._agenda.at(when, partial(self._rung, self._alarm))

    def _rung(self, alarm: int) -> None:
        if alarm != self._alarm:
            return
        self._armed_at = inf
        if self._talks or not self._process.is_running:
            return
        if self.position.due_at() > self._agenda.now:
            self.arm()
        else:
            self._exchange()

    def _exchange(self) -> None:
        request = self.position.compose()
        self._talks = True
        fate = self._fleet.rng.random()
        if fate < self._fleet.loss:  # half of them are heard, and their answers are not
            if fate < self._fleet.loss / 2:
                self._fleet.server.exchange(request, lambda _: None)
            self._agenda.after(0.005, partial(self._process.when_running, partial(self._lost, request)))
            return
        answered = partial(self._replied, request)
        self._fleet.server.exchange(
            request, lambda reply: self._process.when_running(partial(answered, reply))
        )

    def _lost(self, request: Request) -> None:
        self.position.lost(request)
        self._agenda.after(self._fleet.rng.uniform(0.5, 1), partial(self._process.when_running, self._retry))

    def _retry(self) -> None:
        self._talks = False
        self.arm()

    def _replied(self, request: Request, reply: Reply) -> None:
        self._talks = False
        if reply.opened:
            self.world.opened_at.append(self._agenda.now)
        if reply.closed:
            self.world.closed_at.append(self._agenda.now)
        for grant in self.position.apply(request, reply):
            self._granted(grant)
        self.waits = self.position.waits
        self._process.look_into_mailbox()
        self.arm()

    def _granted(self, grant: Grant) -> None:
        hand, queue = self._hand[grant.flow], self.world.queues[grant.flow]
        self.world.granted += 1
        if not hand:
            self.world.unused += 1
            self.position.end(grant, CallOutcome("unused"))
            return
        call = Call(grant, hand.popleft())
        if call.work.tokens is None:
            call.work.tokens = queue.pack(grant.tokens, self._fleet.rng)
            queue.waits.append(self._agenda.now - call.work.since)
        self.calls[grant.holder] = call
        self.world.audit.began()
        self._agenda.after(self._fleet.way(), partial(self._sent, call))
        self.fetch()

    def _sent(self, call: Call) -> None:
        """It reaches the service, whether its process is alive or not."""
        answer = self.world.service.call(call.work.tokens or 0)
        take = partial(self._process.when_running, partial(self._answered, call, answer))
        self._agenda.after(answer.delay + self._fleet.way(), take)

    def _answered(self, call: Call, answer: Answer) -> None:
        del self.calls[call.grant.holder]
        if call.is_live:
            self.world.audit.ended()
        self.position.end(call.grant, self._outcome(call, answer))
        if answer.status == 200:
            self.world.queues[call.work.flow].finish(self._agenda.now, call.work.tokens or 0)
        elif answer.status == 401:
            self.add(call.work, first=True)
        else:
            self._try_later(call.work)
        self.arm()

    def _outcome(self, call: Call, answer: Answer) -> CallOutcome:
        verdict = _VERDICTS.get(answer.status, "failed")
        if verdict == "answered":
            tokens = call.work.tokens
            return CallOutcome(verdict, tokens=tokens, shares={call.work.flow.collection: tokens or 0})
        cool = None if answer.retry_after is None else answer.retry_after * 1000
        return CallOutcome(verdict, why=f"the service answered {answer.status}", cool=cool)

    def _try_later(self, work: Work) -> None:
        work.failures += 1
        delay = self._fleet.rng.uniform(0, min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (work.failures - 1)))
        again = partial(self.add, work, first=True)
        self._agenda.after(delay, partial(self._process.when_running, again))

    def _say(self, flow: Flow) -> None:
        """Say what is wanted for a flow, as the dispatcher does after each change."""
        calls = len(self._hand[flow])
        self.position.want(flow, Want(calls, self.world.queues[flow].asked if calls else 0))
