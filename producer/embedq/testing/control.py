"""What a test and its fake API say to each other: settings one way, counts the other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

CONTROL_PATH = "/_control"
TOKEN_HEADER = "X-Fake-API-Token"  # noqa: S105 -- the name of a header

MAX_DIMENSIONS = 16_000
"""pgvector stores no more."""

Seconds = Annotated[float, Meta(ge=0)]
Limit = Annotated[int, Meta(ge=1)]


class Behaviour(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How the API behaves when nothing goes wrong; each model can have its own.

    ``latency`` and ``latency_per_text`` are seconds from a request's arrival to its answer.
    ``max_concurrency`` calls of a model may be in flight; one more is refused at once with 429. The limits a
    minute hold over any sliding window of ``minute`` seconds (shorter makes a test quick), refused calls not
    counted; ``retry_after`` and ``ratelimit_headers`` say what is told of them: ``Retry-After`` in seconds
    (True), as a date, or with ``retry-after-ms`` beside it ("ms"). ``dimensions`` is the model's default.
    ``max_characters`` is of a lone string, ``max_characters_in_array`` of each string of an array; longer is
    a 400, as are more than ``max_inputs`` texts. With an ``api_key``, other keys are a 401. ``salt`` is put
    before each text before its vector is made (``vector_of(salt + text, dimensions)``): models with different
    ones give different vectors.
    """

    latency: Seconds = 0.0
    latency_per_text: Seconds = 0.0
    max_concurrency: Limit | None = None
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    minute: Seconds = 60.0
    retry_after: bool | Literal["date", "ms"] = True
    ratelimit_headers: bool = False
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] = 1536
    max_inputs: Limit = 2048
    max_characters: Limit | None = None
    max_characters_in_array: Limit | None = None
    api_key: str | None = None
    salt: str = ""


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings to change; of every model, or of one."""

    settings: dict[str, Any]
    model: str | None = None


class Wait(msgspec.Struct, frozen=True):
    """What to wait for, and for how many seconds at most."""

    timeout: Seconds
    calls: int = 0
    in_flight: int = 0
    idle: bool = False
    """Until no call is in flight."""


class CallRecord(msgspec.Struct, gc=False):
    """One call of ``/v1/embeddings``. ``status`` 0 means that no whole answer was sent (yet).

    ``at`` and ``ended`` are seconds of the machine's monotonic clock (``time.monotonic``).
    """

    model: str
    at: float
    """Arrival: when its request was read."""
    texts: int
    tokens: int
    status: int = 0
    in_flight: int = 0
    """Calls of this model in flight at its arrival, itself included."""
    ended: float | None = None
    """When it was no longer in flight; None while it is."""
    admitted: bool = False
    """Whether it counts against the limits a minute: the request was in order and within every limit. What a
    fault then made of it, a 429 too, does not matter."""
    key: str = ""
    """The key that it carried: clients with keys of their own can be told apart."""


class ModelStats(msgspec.Struct):
    """Counts of one model. A call is in flight from when its request was read until its answer was sent."""

    calls: int = 0
    texts: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    statuses: dict[int, int] = msgspec.field(default_factory=dict)
    """Finished calls by status; 0 where no whole answer was sent."""
    last_request: dict[str, Any] = msgspec.field(default_factory=dict)
    """The last call's fields; ``input`` is ``"string"`` or ``"array"``, never the texts."""


class Stats(msgspec.Struct):
    """Counts since the start or the last reset."""

    calls: int = 0
    texts: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    statuses: dict[int, int] = msgspec.field(default_factory=dict)
    """Finished calls by status; 0 where no whole answer was sent."""
    models: dict[str, ModelStats] = msgspec.field(default_factory=dict)
    """By the id as it was asked for; ``""`` for requests that could not be read."""
    billed_texts: int = 0
    """Different texts that a whole and right answer was sent for."""
    billed_again: int = 0
    """Those of them that it was sent for more than once."""
