"""What a process and the fleet's state of a model say to each other: the JSON of ``lua/exchange.lua``.

Times are milliseconds by the server's clock, durations milliseconds; tokens are estimates until a call has
ended.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from embedq.contract import Lane
from embedq_worker.allowance import Allowance
from embedq_worker.catalogue import Model

Concurrency = Literal["aimd", "fixed"]
Verdict = Literal["answered", "neutral", "throttled", "overloaded", "failed", "refused", "unused", "dropped"]
"""What became of a call, as far as limits go.

``answered``: vectors came. ``neutral``: the service is there, it refused a text. ``throttled``: 429.
``overloaded``: 503 or a time-out. ``failed``: any other failure that may pass. ``refused``: the service
refuses us. ``unused``: no call was made. ``dropped``: we ended it ourselves, and know nothing.
"""
Why = Literal["concurrency", "requests", "tokens", "cooling", "paused", "memory"]
"""Why something has to wait. ``memory``: Redis has lost its own, calls from before may be in flight."""


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of a model for the whole fleet; None: no limit."""

    max_concurrency: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: Concurrency = msgspec.field(default="aimd")

    @classmethod
    def of(cls, model: Model) -> Limits:
        """As a model's file has them; those that are set live go before them (``board``)."""
        return cls(
            model.max_concurrency, model.requests_per_minute, model.tokens_per_minute, model.concurrency
        )


class Flow(NamedTuple):
    """One lane of one collection."""

    lane: Lane
    collection: str


class Want(NamedTuple):
    """So many calls are wanted, of about so many tokens each."""

    calls: int
    tokens: int


class Grant(msgspec.Struct, frozen=True):
    """The right to one call of a model, for a flow, with the tokens that were reserved for it."""

    holder: str
    lane: Lane
    collection: str
    tokens: int
    at: float
    full: bool = False
    """Whether it took the last free slot."""

    @property
    def flow(self) -> Flow:
        """Whose turn it was."""
        return Flow(self.lane, self.collection)


class CallOutcome(msgspec.Struct, frozen=True):
    """How a call ended. ``tokens``: used, None if the service did not say; ``shares``: of each collection."""

    verdict: Verdict
    why: str = ""
    tokens: int | None = None
    shares: dict[str, int] | None = None
    cool: float | None = None
    """Milliseconds for which the service asks not to be called."""
    allowance: Allowance | None = None
    """What the service says is left."""


class EndedCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A grant, and how its call ended."""

    holder: str
    lane: Lane
    collection: str
    reserved: int
    at: float
    outcome: Verdict
    why: str
    full: bool = False
    tokens: int | None = None
    shares: dict[str, int] | None = None
    cool: float | None = None
    allowance: dict[str, float] = {}

    @classmethod
    def of(cls, grant: Grant, outcome: CallOutcome) -> EndedCall:
        """Put both together."""
        return cls(
            holder=grant.holder,
            lane=grant.lane,
            collection=grant.collection,
            reserved=grant.tokens,
            at=grant.at,
            full=grant.full,
            outcome=outcome.verdict,
            why=outcome.why,
            tokens=outcome.tokens,
            shares=outcome.shares,
            cool=outcome.cool,
            allowance=_told(outcome.allowance),
        )


def _told(allowance: Allowance | None) -> dict[str, float]:
    fields = allowance._asdict() if allowance else {}
    return {name: value for name, value in fields.items() if value is not None}


class Request(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a process says."""

    process: str
    model: str
    limits: dict[str, int | str]
    lease: int
    alive: int
    minute: int
    epoch: str | None = None
    resync: bool = False
    ended: list[EndedCall] = []
    waits: bool = False
    renew: list[str] = []
    confirm: list[str] = []
    wants: list[tuple[Lane, str, int, int]] = []


class Reply(msgspec.Struct, frozen=True):
    """What it is told.

    ``wait``: ask again then, also if nothing has changed; None: only changes matter. ``heartbeat``: speak at
    least as often while anything is held or wanted.
    """

    epoch: str
    slots: int
    heartbeat: float = 1000.0
    grants: list[Grant] = []
    lapsed: list[str] = []
    wait: float | None = None
    why: Why | None = None
    paused: str | None = None
    opened: str | None = None
    closed: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Handed(msgspec.Struct, frozen=True):
    """A mailbox's entry: a slot that became free for this process while another one asked, or an alarm.

    ``alarm``: milliseconds after which this process is to ask again, on behalf of all that wait.
    """

    model: str
    grant: Grant | None = None
    alarm: float | None = None


encode_request = msgspec.json.Encoder().encode
decode_reply = msgspec.json.Decoder(Reply).decode
decode_handed = msgspec.json.Decoder(Handed).decode
