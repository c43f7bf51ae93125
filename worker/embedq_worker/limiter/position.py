"""The position of this process towards one model: what it holds, what it wants, what it has to tell.

No input or output here: the gate exchanges what ``compose`` gives for what ``apply`` takes, and the
simulation does the same on a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from embedq.contract import Lane
from embedq_worker.limiter.exchange import (
    CallOutcome,
    EndedCall,
    Flow,
    Grant,
    Handed,
    Limits,
    Reply,
    Request,
    Want,
)

HEARTBEAT = 1.0
"""Seconds between two words of a process that holds or wants something, unless it is told otherwise."""
ALIVE = 3.0
"""Heartbeats without a word after which a process counts as dead: no slot is handed over to it."""
MOST_WANTED = 32
"""Calls of one flow that the fleet is told of: more would be granted to a process that is gone."""
_FEW = 4
_SIMILAR = 0.1


class Position:
    """Times are seconds of ``clock``; ``lease`` and ``minute`` in seconds."""

    def __init__(
        self,
        process: str,
        model: str,
        limits: Limits,
        *,
        lease: float,
        clock: Callable[[], float],
        minute: float = 60.0,
    ) -> None:
        self.model = model
        self.holding: dict[str, Grant] = {}
        self.slots = limits.max_concurrency
        self.paused: str | None = None
        self.paused_until = -inf
        self.tokens_per_minute = limits.tokens_per_minute
        self.requests_per_minute = limits.requests_per_minute
        self._process = process
        self._limits = _as_settings(limits)
        self._lease = lease
        self._minute = minute
        self._clock = clock
        self._wants: dict[Flow, Want] = {}
        self._registered: dict[Flow, Want] = {}
        self._ended: list[EndedCall] = []
        self._handed: dict[str, Grant] = {}
        self._epoch: str | None = None
        self._heartbeat = min(HEARTBEAT, lease / 3)
        self._resync = False
        self._urgent = False
        self._ask_at = inf
        self._alarm_at = inf
        self._told_at = -inf
        self._renewed_at = clock()

    def want(self, flow: Flow, want: Want) -> None:
        """So much is wanted for a flow now; no calls: nothing any more."""
        want = Want(min(want.calls, MOST_WANTED), want.tokens)
        if want.calls:
            self._wants[flow] = want
        else:
            self._wants.pop(flow, None)
        known = self._registered.get(flow)
        if want.calls and (known is None or known.calls < min(want.calls, _FEW)):
            self._urgent = True

    def end(self, grant: Grant, outcome: CallOutcome) -> None:
        """A call has ended, or was not made."""
        self.holding.pop(grant.holder, None)
        self._ended.append(EndedCall.of(grant, outcome))
        self._urgent = True

    def hand(self, handed: Handed) -> None:
        """Something came through the mailbox; a slot is ours when the fleet says so."""
        if handed.grant is not None:
            self._handed[handed.grant.holder] = handed.grant
            self._was_granted(handed.grant)
            self._urgent = True
        elif handed.alarm is not None:
            self._alarm_at = min(self._alarm_at, self._clock() + handed.alarm / 1000)

    @property
    def may_be_tried(self) -> bool:
        """Whether no pause is known of, or its time is over. From any thread."""
        return self._clock() >= self.paused_until

    @property
    def waits(self) -> bool:
        """Whether something is wanted that has not been granted."""
        return bool(self._wants) or bool(self._registered)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to hold, to want or to tell."""
        return not (self.holding or self._handed or self._ended or self.waits or self._resync)

    def due_at(self) -> float:
        """When the next exchange is due; infinity while only a change could make one due."""
        if self._urgent:
            return -inf
        if self.is_idle:
            return inf
        return min(self._ask_at, self._alarm_at, self._told_at + self._heartbeat)

    def compose(self) -> Request:
        """What to say now."""
        now = self._clock()
        is_full = self._resync or now - self._told_at >= self._heartbeat
        renews = self._resync or now - self._renewed_at >= self._lease / 3
        request = Request(
            process=self._process,
            model=self.model,
            limits=self._limits,
            lease=int(self._lease * 1000),
            alive=int(ALIVE * self._heartbeat * 1000),
            minute=int(self._minute * 1000),
            epoch=self._epoch,
            resync=self._resync,
            ended=self._ended,
            waits=bool(self._wants),
            renew=list(self.holding) if renews else [],
            confirm=list(self._handed),
            wants=self._news(everything=is_full),
        )
        if renews:
            self._renewed_at = now
        if is_full:
            self._told_at = now
        self._ended = []
        self._urgent = False
        self._ask_at = inf
        if self._alarm_at <= now:
            self._alarm_at = inf
        return request

    def apply(self, request: Request, reply: Reply) -> list[Grant]:
        """Take the answer to a request; returns the calls that may be made now."""
        for lane, collection, calls, tokens in request.wants:
            self._register(Flow(lane, collection), Want(calls, tokens))
        for grant in reply.grants:
            self._was_granted(grant)
        granted = [*reply.grants, *self._confirmed(request, reply)]
        self.holding.update((grant.holder, grant) for grant in granted)
        self._resync = self._epoch is not None and self._epoch != reply.epoch
        self._urgent = self._urgent or self._resync
        self._epoch = reply.epoch
        self._ask_at = inf if reply.wait is None else self._clock() + reply.wait / 1000
        self.slots, self.paused = reply.slots, reply.paused
        self._heartbeat = min(reply.heartbeat / 1000, self._lease / 3)
        # For a heartbeat at most: what is refused meanwhile wants nothing, and nobody would tell of the end.
        told = self._clock() + min(self._heartbeat, (reply.wait or inf) / 1000)
        self.paused_until = told if reply.why == "paused" else -inf
        self.tokens_per_minute = reply.tokens_per_minute
        self.requests_per_minute = reply.requests_per_minute
        return granted

    def lost(self, request: Request) -> None:
        """A request found no answer: it may have been heard or not. The next one tells everything."""
        self._ended = [*request.ended, *self._ended]
        self._resync = True
        self._urgent = True

    def _confirmed(self, request: Request, reply: Reply) -> list[Grant]:
        """The slots that were handed over and are ours; one that lapsed is told of as not used."""
        confirmed = []
        for holder in request.confirm:
            grant = self._handed.pop(holder)
            if holder in reply.lapsed:
                self.end(grant, CallOutcome("unused"))
            else:
                confirmed.append(grant)
        return confirmed

    def _news(self, *, everything: bool) -> list[tuple[Lane, str, int, int]]:
        flows = self._wants.keys() | self._registered.keys()
        wanted = {flow: self._still_wanted(flow) for flow in flows}
        return [
            (*flow, *want)
            for flow, want in wanted.items()
            if everything or _is_news(want, self._registered.get(flow, Want(0, 0)))
        ]

    def _still_wanted(self, flow: Flow) -> Want:
        """What is wanted besides what is on its way through the mailbox."""
        want = self._wants.get(flow)
        if want is None:
            return Want(0, 0)
        calls = want.calls - sum(grant.flow == flow for grant in self._handed.values())
        return Want(calls, want.tokens) if calls > 0 else Want(0, 0)

    def _register(self, flow: Flow, want: Want) -> None:
        if want.calls:
            self._registered[flow] = want
        else:
            self._registered.pop(flow, None)

    def _was_granted(self, grant: Grant) -> None:
        known = self._registered.get(grant.flow)
        if known is not None:
            self._register(grant.flow, Want(known.calls - 1, known.tokens))


def _is_news(want: Want, known: Want) -> bool:
    """Whether it has to be told before the next heartbeat: not for a few tokens more or less."""
    return want.calls != known.calls or abs(want.tokens - known.tokens) > known.tokens * _SIMILAR


def _as_settings(limits: Limits) -> dict[str, int | str]:
    settings: dict[str, int | str] = {
        "max_concurrency": limits.max_concurrency,
        "concurrency": limits.concurrency,
    }
    if limits.requests_per_minute is not None:
        settings["requests_per_minute"] = limits.requests_per_minute
    if limits.tokens_per_minute is not None:
        settings["tokens_per_minute"] = limits.tokens_per_minute
    return settings
