"""A fleet on virtual time: processes that exchange with the limiter's real script, one at a time.

Time passes only between events, so that minutes take milliseconds and every run is the same.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Self, cast

import redis

from embedq_worker.limiter.exchange import (
    CallOutcome,
    Flow,
    Grant,
    Limits,
    Reply,
    Request,
    Want,
    decode_handed,
    decode_reply,
    encode_request,
)
from embedq_worker.limiter.keys import mailbox_key, mailboxes_key, model_key, settings_key
from embedq_worker.limiter.position import Position
from embedq_worker.limiter.scripts import exchange_script
from embedq_worker.script import Script

CLOCK = "local function read_clock() return tonumber(ARGV[2]) end"
"""In place of clock.lua: the time comes along with each request."""
EPOCH = 1_700_000_000.0
"""The server's clock at the beginning, in seconds: as large as the real one."""
BULK = Flow("bulk", "docs")
LIVE = Flow("live", "docs")
QUERY = Flow("query", "docs")
ANSWERED = CallOutcome("answered")
UNUSED = CallOutcome("unused")
_WAY = 0.0005
_PATIENCE = 20_000


class Fleet:
    """Times are seconds since the beginning; ``lease`` and ``minute`` in seconds.

    ``skew``: seconds by which the server's clock was set while it ran.

    ``on_grant`` is called with each process and the call that it may make, ``on_heard`` with each exchange
    that the server heard; ``grants`` are all calls that may be made, ``replies`` the answers that arrived.
    """

    def __init__(
        self, url: str, *, lease: float = 30.0, minute: float = 60.0, script: Script | None = None
    ) -> None:
        self.now = 0.0
        self.skew = 0.0
        self.lease = lease
        self.minute = minute
        self.processes: list[Process] = []
        self.grants: list[tuple[Process, Grant]] = []
        self.replies: list[tuple[float, Process, Reply]] = []
        self.on_grant: Callable[[Process, Grant], None] = lambda *_: None
        self.on_heard: Callable[[Process, Request, Reply], None] = lambda *_: None
        self.redis = redis.Redis.from_url(url)
        self.redis.flushall()
        self._digest = self.redis.script_load((script or exchange_script(CLOCK)).text)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._exchanges = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.redis.close()

    def process(self, limits: Limits, model: str = "m") -> Process:
        """One process more, with one model."""
        process = Process(self, f"p-{len(self.processes)}", limits, model)
        self.processes.append(process)
        return process

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have it happen then."""
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Have it happen so much later."""
        self.at(self.now + delay, action)

    def run(self, seconds: float) -> None:
        """Let everything happen that is due within so many seconds."""
        until = self.now + seconds
        while True:
            due, _, process = min(
                ((process.due_at(), number, process) for number, process in enumerate(self.processes)),
                default=(until + 1, 0, None),
            )
            event_at = self._events[0][0] if self._events else until + 1
            if min(due, event_at) > until:
                break
            self.now = max(self.now, min(due, event_at))
            if process is None or event_at <= due:
                heapq.heappop(self._events)[2]()
            else:
                process.exchange()
        self.now = max(self.now, until)

    def settle(self) -> None:
        """Let everything be said that has to be said now."""
        self.run(0.05)

    def state(self, model: str = "m") -> dict[str, str]:
        """The hash of a model's state."""
        found = cast("dict[bytes, bytes]", self.redis.hgetall(model_key(model)))
        return {field.decode(): value.decode() for field, value in found.items()}

    def server_time(self, when: float) -> float:
        """What the server's clock, as it is now, says then; in seconds."""
        return EPOCH + self.skew + when

    def limit(self, model: str = "m") -> float:
        """The limit to which concurrency has adapted."""
        return float(self.state(model).get("limit", "inf"))

    def leases(self, model: str = "m") -> set[str]:
        """Who holds a lease that has not lapsed."""
        now = self.server_time(self.now) * 1000
        found = cast("list[bytes]", self.redis.zrangebyscore(model_key(model) + ":leases", now, "inf"))
        return {holder.decode() for holder in found}

    def set(self, model: str = "m", **limits: int | str) -> None:
        """Set limits for the running fleet."""
        self.redis.hset(settings_key(model), mapping={name: str(value) for name, value in limits.items()})

    def granted_since(self, when: float) -> Counter[Flow]:
        """How many calls of each flow were granted since then."""
        return Counter(grant.flow for _, grant in self.grants if at(grant) >= when)

    def ask(self, request: Request) -> Reply:
        """Run the script, as the server would now, and take a little time for it."""
        self._exchanges += 1
        assert self._exchanges < _PATIENCE, "the processes talk without end"
        self.now += _WAY
        keys = (model_key(request.model), mailboxes_key())
        time = f"{self.server_time(self.now) * 1000:.3f}"
        evalsha = cast("Callable[..., bytes]", self.redis.evalsha)
        return decode_reply(evalsha(self._digest, 2, *keys, encode_request(request), time))

    def deliver(self) -> None:
        """Bring what is in the mailboxes to those who look."""
        looking = [process for process in self.processes if process.is_up and process.position.waits]
        pipe = cast("Any", self.redis.pipeline(transaction=False))
        for process in looking:
            pipe.lpop(mailbox_key(process.name), 100)
        for process, entries in zip(looking, pipe.execute() if looking else [], strict=True):
            for entry in entries or []:
                process.position.hand(decode_handed(entry))


class Process:
    """A process and its position; wants are counted down by grants, as a dispatcher does.

    ``is_up``: whether it says and hears anything; ``holding``: the calls that it makes now.
    """

    def __init__(self, fleet: Fleet, name: str, limits: Limits, model: str) -> None:
        self.name = name
        self.is_up = True
        self.losses: list[str] = []
        """What happens to its next exchanges: the ``request`` is lost, or the ``answer``."""
        self.position = Position(
            name, model, limits, lease=fleet.lease, minute=fleet.minute, clock=lambda: fleet.now
        )
        self._fleet = fleet
        self._wants: dict[Flow, Want] = {}
        self._silent_until = 0.0

    @property
    def holding(self) -> list[Grant]:
        """The calls in flight, the oldest first."""
        return list(self.position.holding.values())

    def want(self, calls: int, flow: Flow = BULK, tokens: int = 0) -> None:
        """So many calls are wanted now, instead of what was said before."""
        self._wants[flow] = Want(calls, tokens)
        self.position.want(flow, self._wants[flow])

    def end(self, grant: Grant, outcome: CallOutcome = ANSWERED) -> None:
        """A call has ended."""
        self.position.end(grant, outcome)

    def end_all(self, outcome: CallOutcome = ANSWERED) -> None:
        """All calls have ended."""
        for grant in self.holding:
            self.end(grant, outcome)

    def due_at(self) -> float:
        """When it says something next; infinity while it does not."""
        return max(self.position.due_at(), self._silent_until) if self.is_up else float("inf")

    def exchange(self) -> None:
        """Say what there is to say, and take the answer."""
        request = self.position.compose()
        loss = self.losses.pop(0) if self.losses else None
        if loss == "request":
            self._lose(request)
            return
        reply = self._fleet.ask(request)
        self._fleet.on_heard(self, request, reply)
        if loss == "answer":
            self._lose(request)
            return
        self._fleet.replies.append((self._fleet.now, self, reply))
        for grant in self.position.apply(request, reply):
            self._granted(grant)
        self._fleet.deliver()

    def _lose(self, request: Request) -> None:
        self.position.lost(request)
        self._silent_until = self._fleet.now + 0.75

    def _granted(self, grant: Grant) -> None:
        wanted = self._wants.get(grant.flow, Want(0, 0))
        if wanted.calls < 1:
            self.end(grant, UNUSED)
            return
        self.want(wanted.calls - 1, grant.flow, wanted.tokens)
        self._fleet.grants.append((self, grant))
        self._fleet.on_grant(self, grant)


class Endless:
    """Every process always wants more of some flows, and each call takes so many seconds."""

    def __init__(self, fleet: Fleet, seconds: float = 1.0) -> None:
        self.outcome: Callable[[Process, Grant], CallOutcome] = lambda *_: ANSWERED
        self._fleet = fleet
        self._seconds = seconds
        self._flows: dict[tuple[Process, Flow], int] = {}
        fleet.on_grant = self._granted

    def add(self, process: Process, flow: Flow = BULK, tokens: int = 0, calls: int = 32) -> None:
        """The process wants so many calls at any time."""
        self._flows[process, flow] = calls
        process.want(calls, flow, tokens)

    def stop(self, process: Process, flow: Flow = BULK) -> None:
        """It wants nothing more of it."""
        del self._flows[process, flow]
        process.want(0, flow)

    def _granted(self, process: Process, grant: Grant) -> None:
        if calls := self._flows.get((process, grant.flow)):
            process.want(calls, grant.flow, grant.tokens)
        outcome = self.outcome(process, grant)
        self._fleet.after(self._seconds, partial(process.end, grant, outcome))


def at(grant: Grant) -> float:
    """When it was granted, in seconds since the beginning."""
    return grant.at / 1000 - EPOCH
