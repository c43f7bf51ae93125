"""Each failure that the chaos harness causes: the metric that moves, and the alert that a person gets.

The API's failures are caused with a model each, all at once. What a client gets right vectors of all the same
is no failure for a person: then a metric moves and nobody is told, and ``why`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedq.testing import faults
from embedq.testing.faults import AnyFault
from tests.chaos.load import MARKER

WITHIN = 60.0
"""Seconds from a failure to its alert."""


@dataclass(frozen=True)
class ApiFailure:
    """One of the embeddings API."""

    fault: AnyFault
    outcome: str
    """How calls end then: label of ``embedq_calls_total``. Empty: they do not end for a minute."""
    alert: str | None = "EmbedqModelPaused"
    name: str = ""
    why: str = ""
    """Why no alert."""
    marker: str | None = None
    """Only texts with it are refused."""

    @property
    def model(self) -> str:
        """The model that has it."""
        return (self.name or type(self.fault).__name__).lower()

    @property
    def metric(self) -> str:
        """What grows."""
        if not self.outcome:
            return f'sum(embedq_calls_in_flight{{model="{self.model}"}})'
        return f'sum(embedq_calls_total{{model="{self.model}",outcome="{self.outcome}"}})'

    @property
    def labels(self) -> Mapping[str, str]:
        """By which the alert is this failure's."""
        return {"collection" if self.marker else "model": self.model}


@dataclass(frozen=True)
class Deed:
    """One of the installation: a deed of the chaos harness, which lasts here where it is over there."""

    name: str
    metric: str
    """What grows."""
    alert: str
    labels: Mapping[str, str] = field(default_factory=dict)


_USABLE = "the client takes the right vectors out of it"

API_FAILURES = (
    ApiFailure(faults.Status(status=429), "throttled", "EmbedqThrottled", name="status429"),
    ApiFailure(
        faults.Status(status=429, retry_after="120"), "throttled", "EmbedqThrottled", name="retryafter"
    ),
    ApiFailure(faults.Status(status=500), "failed", name="status500"),
    ApiFailure(faults.Status(status=503), "failed", name="status503"),
    ApiFailure(faults.Hang(), "", "EmbedqModelSilent"),
    ApiFailure(faults.Reset(), "failed"),
    ApiFailure(faults.CutBody(), "failed"),
    ApiFailure(faults.CutJSON(), "failed"),
    ApiFailure(faults.NotJSON(), "failed"),
    ApiFailure(faults.HugeReply(), "failed"),
    ApiFailure(faults.WrongCount(), "failed"),
    ApiFailure(faults.WrongIndex(), "failed"),
    ApiFailure(faults.RepeatedIndex(), "failed"),
    ApiFailure(faults.WrongDimensions(), "failed"),
    ApiFailure(faults.NotFinite(), "failed"),
    ApiFailure(faults.ZeroVector(), "failed"),
    ApiFailure(faults.Redirect(), "refused"),
    ApiFailure(faults.RefusedKey(), "refused"),
    ApiFailure(faults.NoCredits(), "refused"),
    ApiFailure(faults.MissingModel(), "refused"),
    ApiFailure(faults.BadText(), "bad_input", "EmbedqDeadLetters", marker=MARKER),
    ApiFailure(
        faults.SlowDrip(seconds=5), "answered", None, why="slow is no failure; lag and age have alerts"
    ),
    ApiFailure(faults.ShuffledOrder(), "answered", None, why=_USABLE),
    ApiFailure(
        faults.Noise(), "answered", None, why="no call shows it; the drift check does: EmbedqModelDrifts"
    ),
    ApiFailure(faults.NoUsage(), "answered", None, why=_USABLE),
    ApiFailure(faults.Floats(), "answered", None, why=_USABLE),
)

DEEDS = (
    Deed(
        "cut broker",
        'sum(embedq_server_errors_total{server="redis"})',
        "EmbedqServerUnsteady",
        {"server": "redis"},
    ),
    Deed(
        "cut database",
        'sum(embedq_server_errors_total{server="postgres"})',
        "EmbedqServerUnsteady",
        {"server": "postgres"},
    ),
    Deed("kill", "sum(embedq_taken_over_messages_total)", "EmbedqWorkerLost"),
    Deed("stop", "-sum(up)", "EmbedqWorkerDown"),
    Deed("valkey", 'max(embedq_outage{server="redis"})', "EmbedqRedisAway"),
    Deed("postgres", 'max(embedq_outage{server="postgres"})', "EmbedqPostgresAway"),
)
