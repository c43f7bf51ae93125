"""Each failure that is caused on purpose: the metric that moves, and the alert that a person gets.

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
    share: float = 1.0
    """Of the calls that fail so."""

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
    """One of the installation, done by ``deeds``. Several rows of one name: it is told by several alerts."""

    name: str
    metric: str
    """What grows."""
    alert: str
    labels: Mapping[str, str] = field(default_factory=dict)
    collection: str = ""
    """The one, with a model of the same name, that it befalls alone."""
    within: float = WITHIN
    """Seconds to the alert; more where the rule itself has longer patience."""


_USABLE = "the client takes the right vectors out of it"

API_FAILURES = (
    ApiFailure(faults.Status(status=429), "throttled", "EmbedqThrottled", name="status429"),
    ApiFailure(
        faults.Status(status=429, retry_after="120"), "throttled", "EmbedqThrottled", name="retryafter"
    ),
    ApiFailure(faults.Status(status=500), "failed", name="status500"),
    ApiFailure(faults.Status(status=503), "failed", name="status503"),
    ApiFailure(faults.Status(status=500), "failed", "EmbedqCallsFail", name="nowandthen", share=0.3),
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

_THRIFT = {"scope": "collection", "name": "thrift"}
_MONEY = {"scope": "collection", "name": "money"}
_BACKLOG = {"collection": "backlog", "lane": "live"}

DEEDS = (
    # First: its alert stays for ten minutes.
    Deed("emptied", "sum(embedq_redis_emptied_total)", "EmbedqRedisEmptied"),
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
    Deed(
        "kill again",
        'max(changes(process_start_time_seconds{job="embedq"}[10m]))',
        "EmbedqWorkerRestarts",
    ),
    Deed("stop", "-sum(up)", "EmbedqWorkerDown"),
    Deed("stop all", "-sum(up)", "EmbedqNoWorkers"),
    Deed("valkey", 'max(embedq_outage{server="redis"})', "EmbedqRedisAway"),
    Deed("postgres", 'max(embedq_outage{server="postgres"})', "EmbedqPostgresAway"),
    Deed(
        "bad sender",
        'sum(embedq_dead_letters_total{collection="sender"})',
        "EmbedqManyDeadLetters",
        {"collection": "sender"},
        collection="sender",
    ),
    Deed(
        "most spent",
        'max(embedq_fleet_budget_tokens{scope="collection",name="thrift"})',
        "EmbedqBudgetNearlySpent",
        _THRIFT,
        collection="thrift",
    ),
    Deed(
        "all spent",
        'max(embedq_fleet_budget_spent{scope="collection",name="money"})',
        "EmbedqBudgetSpent",
        _MONEY,
        collection="money",
    ),
    Deed(
        "other model",
        'max(embedq_drift_distance{model="drifter"})',
        "EmbedqModelDrifts",
        {"model": "drifter"},
        collection="drifter",
    ),
    Deed(
        "triggers off",
        'max(embedq_fleet_watch_amiss{collection="watched"})',
        "EmbedqWatchAmiss",
        {"collection": "watched"},
        collection="watched",
    ),
    Deed(
        "slow writes",
        'sum(embedq_write_seconds_count) - sum(embedq_write_seconds_bucket{le="5.0"})',
        "EmbedqWritesSlow",
        within=240,
    ),
    # A queue that a paused model fills.
    Deed(
        "backlog",
        'max(embedq_fleet_outbox_oldest_seconds{collection="backlog"})',
        "EmbedqOutboxOld",
        _BACKLOG,
        collection="backlog",
        within=120,
    ),
    Deed(
        "backlog",
        'max(embedq_fleet_queued_messages{collection="backlog",lane="live"})',
        "EmbedqQueueStalled",
        _BACKLOG,
        collection="backlog",
        within=240,
    ),
    Deed(
        "backlog",
        'max(embedq_fleet_oldest_seconds{collection="backlog",lane="live"})',
        "EmbedqQueueOld",
        _BACKLOG,
        collection="backlog",
        within=420,
    ),
)

NOT_CAUSED = {
    "EmbedqWorkerNotReady": "a hub that stands still, or a drain of more than a minute, is a defect",
    "EmbedqSuspectsWait": "it takes ten minutes, and a fleet of one worker that never has a free moment",
    "EmbedqDriftUnchecked": "it takes a day",
}
"""Alerts without a row, and why. Their rules are tested over timelines, as all are."""
