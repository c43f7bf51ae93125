"""What Prometheus sees while all is well, then while something is wrong, then while it is well again.

One timeline an alert, for ``promtool test rules``: values every five seconds, in promtool's own notation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INTERVAL = 5


@dataclass(frozen=True)
class Timeline:
    """The series that an alert's rule reads, and when it fires. Times in seconds from the start."""

    alert: str
    series: Mapping[str, str]
    well: int
    """Nothing fires: all is well, or the trouble is too young or too small."""
    fires: int
    over: int | None
    """It fires no more. None: it does so only by a person's hand."""
    also: tuple[str, ...] = ()
    """Other alerts that fire then."""
    labels: Mapping[str, str] = field(default_factory=dict)


def held(value: float, seconds: int) -> str:
    """The same value for so long."""
    return f"{value:g}x{seconds // INTERVAL - 1}"


def counted(value: float, each: float, seconds: int) -> str:
    """A counter that has ``value`` and grows by ``each`` every five seconds."""
    return f"{value:g}+{each:g}x{seconds // INTERVAL - 1}"


def then(*pieces: str) -> str:
    """One after the other."""
    return " ".join(pieces)


def switched(well: float, wrong: float, seconds: int = 60) -> str:
    """A gauge: a minute, ``seconds`` of something else, then as before for a long time."""
    return then(held(well, 60), held(wrong, seconds), held(well, 1200))


def burst(count: float, later: int = 1200) -> str:
    """A counter that has stood at 0 for a minute and then at ``count``."""
    return then(held(0, 60), held(count, later))


_UP = 'up{job="embedq",instance="a:9100"}'
_OTHER_UP = 'up{job="embedq",instance="b:9100"}'
_ANSWERED = 'embedq_calls_total{instance="a:9100",model="m",outcome="answered"}'


def _calls(outcome: str) -> str:
    return f'embedq_calls_total{{instance="a:9100",model="m",outcome="{outcome}"}}'


def _turning(outcome: str, share: float) -> dict[str, str]:
    """Ten calls every five seconds; after a minute a share of them ends so for two minutes."""
    wrong = 10 * share
    return {
        _ANSWERED: then(counted(0, 10, 60), counted(120, 10 - wrong, 120), counted(360, 10, 600)),
        _calls(outcome): then(held(0, 60), counted(wrong, wrong, 120), held(wrong * 24, 600)),
    }


TIMELINES = (
    Timeline(
        "EmbedqNoWorkers",
        {_UP: switched(1, 0)},
        well=75,
        fires=95,
        over=125,
        also=("EmbedqWorkerDown",),
    ),
    Timeline(
        "EmbedqWorkerDown",
        {_UP: held(1, 600), _OTHER_UP: switched(1, 0)},
        well=75,
        fires=85,
        over=125,
        labels={"instance": "b:9100"},
    ),
    Timeline(
        "EmbedqWorkerNotReady",
        {
            _UP: held(1, 600),
            'embedq_ready{job="embedq",instance="a:9100"}': switched(1, 0, 120),
            'embedq_outage{job="embedq",instance="a:9100",server="redis"}': held(0, 600),
        },
        well=110,
        fires=125,
        over=185,
    ),
    Timeline(
        "EmbedqWorkerLost",
        {_UP: held(1, 600), 'embedq_taken_over_messages_total{instance="a:9100"}': burst(7)},
        well=55,
        fires=65,
        over=365,
    ),
    Timeline(
        "EmbedqWorkerRestarts",
        {
            _UP: held(1, 2000),
            'process_start_time_seconds{job="embedq",instance="a:9100"}': then(
                held(1, 60), held(70, 60), held(130, 60), held(190, 1500)
            ),
        },
        well=175,
        fires=185,
        over=730,
    ),
    Timeline(
        "EmbedqRedisAway",
        {_UP: held(1, 600), 'embedq_outage{instance="a:9100",server="redis"}': switched(0, 1)},
        well=65,
        fires=75,
        over=125,
    ),
    Timeline(
        "EmbedqPostgresAway",
        {_UP: held(1, 600), 'embedq_outage{instance="a:9100",server="postgres"}': switched(0, 1)},
        well=65,
        fires=75,
        over=125,
    ),
    Timeline(
        "EmbedqServerUnsteady",
        {
            _UP: held(1, 2000),
            'embedq_server_errors_total{instance="a:9100",server="postgres"}': then(
                held(0, 60), held(2, 120), held(3, 20), held(4, 20), held(5, 1200)
            ),
        },
        well=170,
        fires=230,
        over=600,
    ),
    Timeline(
        "EmbedqWritesSlow",
        {
            _UP: held(1, 600),
            'embedq_write_seconds_bucket{instance="a:9100",le="5"}': then(
                counted(0, 10, 60), held(120, 120), counted(120, 10, 600)
            ),
            'embedq_write_seconds_bucket{instance="a:9100",le="10"}': counted(0, 10, 780),
            'embedq_write_seconds_bucket{instance="a:9100",le="+Inf"}': counted(0, 10, 780),
        },
        well=60,
        fires=170,
        over=330,
    ),
    Timeline(
        "EmbedqModelPaused",
        {
            _UP: held(1, 600),
            'embedq_fleet_paused{instance="a:9100",model="m",reason="refused"}': switched(0, 1),
        },
        well=65,
        fires=75,
        over=125,
        labels={"model": "m", "reason": "refused"},
    ),
    Timeline(
        "EmbedqModelSilent",
        {
            _UP: held(1, 600),
            'embedq_calls_in_flight{instance="a:9100",model="m"}': held(1, 600),
            _ANSWERED: then(counted(0, 1, 60), held(11, 60), counted(12, 1, 600)),
        },
        well=95,
        fires=110,
        over=130,
    ),
    Timeline("EmbedqCallsFail", {_UP: held(1, 900), **_turning("failed", 0.3)}, well=65, fires=110, over=240),
    Timeline(
        "EmbedqThrottled", {_UP: held(1, 900), **_turning("throttled", 0.5)}, well=70, fires=115, over=240
    ),
    Timeline(
        "EmbedqThrottled",
        {_UP: held(1, 900), 'embedq_fleet_cooling{instance="a:9100",model="m"}': switched(0, 1, 120)},
        well=80,
        fires=115,
        over=240,
    ),
    Timeline(
        "EmbedqDeadLetters",
        {
            _UP: held(1, 600),
            'embedq_dead_letters_total{instance="a:9100",collection="docs",cause="text"}': burst(1),
        },
        well=55,
        fires=65,
        over=365,
        labels={"collection": "docs", "cause": "text"},
    ),
    Timeline(
        "EmbedqDeadLetters",
        {
            _UP: held(1, 600),
            'embedq_dead_letters_total{instance="a:9100",collection="docs",cause="text"}': then(
                "_x12", held(1, 1200)
            ),
        },
        well=55,
        fires=65,
        over=365,
    ),
    Timeline(
        "EmbedqManyDeadLetters",
        {
            _UP: held(1, 2000),
            'embedq_items_total{instance="a:9100",collection="docs",lane="bulk",outcome="stored"}': counted(
                0, 10, 2000
            ),
            'embedq_items_total{instance="a:9100",collection="docs",lane="bulk",outcome="dead"}': burst(50),
            'embedq_dead_letters_total{instance="a:9100",collection="docs",cause="text"}': burst(50),
        },
        well=55,
        fires=70,
        over=700,
        also=("EmbedqDeadLetters",),
    ),
    Timeline(
        "EmbedqQueueStalled",
        {
            _UP: held(1, 900),
            'embedq_fleet_queued_messages{instance="a:9100",collection="docs",lane="live"}': held(5, 900),
            'embedq_messages_total{instance="a:9100",collection="docs",lane="live"}': then(
                counted(0, 1, 60), held(11, 240), counted(12, 1, 600)
            ),
        },
        well=220,
        fires=250,
        over=320,
    ),
    Timeline(
        "EmbedqQueueOld",
        {
            _UP: held(1, 900),
            'embedq_fleet_oldest_seconds{instance="a:9100",collection="docs",lane="live"}': switched(
                2, 400, 120
            ),
            'embedq_fleet_oldest_seconds{instance="a:9100",collection="docs",lane="bulk"}': held(9999, 900),
        },
        well=115,
        fires=125,
        over=185,
        labels={"lane": "live"},
    ),
    Timeline(
        "EmbedqOutboxOld",
        {
            _UP: held(1, 900),
            'embedq_fleet_outbox_oldest_seconds{instance="a:9100",collection="docs",lane="live"}': switched(
                1, 90, 120
            ),
            'embedq_fleet_outbox_oldest_seconds{instance="a:9100",collection="docs",lane="bulk"}': held(
                9999, 900
            ),
        },
        well=85,
        fires=95,
        over=185,
        labels={"lane": "live"},
    ),
    Timeline(
        "EmbedqWatchAmiss",
        {
            _UP: held(1, 900),
            'embedq_fleet_watch_amiss{instance="a:9100",collection="docs",state="behind"}': switched(
                0, 1, 90
            ),
        },
        well=85,
        fires=130,
        over=400,
        labels={"collection": "docs", "state": "behind"},
    ),
    Timeline(
        "EmbedqRedisEmptied",
        {_UP: held(1, 900), 'embedq_redis_emptied_total{instance="a:9100"}': burst(1)},
        well=55,
        fires=70,
        over=680,
    ),
    Timeline(
        "EmbedqSuspectsWait",
        {_UP: held(1, 2000), 'embedq_fleet_suspects{instance="a:9100"}': switched(0, 3, 900)},
        well=600,
        fires=720,
        over=980,
    ),
    Timeline(
        "EmbedqBudgetSpent",
        {
            _UP: held(1, 900),
            'embedq_fleet_budget_spent{instance="a:9100",scope="collection",name="docs"}': switched(
                0, 1, 300
            ),
            'embedq_fleet_spent_dollars{instance="a:9100",scope="collection",name="docs"}': switched(
                1, 5, 300
            ),
            'embedq_fleet_budget_dollars{instance="a:9100",scope="collection",name="docs"}': held(5, 900),
            # That its messages wait is what the budget is for, and no alarm of its own.
            'embedq_fleet_queued_messages{instance="a:9100",collection="docs",lane="live"}': switched(
                0, 5, 300
            ),
            'embedq_messages_total{instance="a:9100",collection="docs",lane="live"}': held(7, 900),
        },
        well=55,
        fires=350,
        over=365,
        labels={"scope": "collection", "name": "docs"},
    ),
    Timeline(
        "EmbedqBudgetNearlySpent",
        {
            _UP: held(1, 900),
            'embedq_fleet_budget_spent{instance="a:9100",scope="model",name="m"}': held(0, 900),
            'embedq_fleet_spent_dollars{instance="a:9100",scope="model",name="m"}': switched(3.9, 4.1),
            'embedq_fleet_budget_dollars{instance="a:9100",scope="model",name="m"}': held(5, 900),
        },
        well=55,
        fires=65,
        over=125,
        labels={"scope": "model", "name": "m"},
    ),
    Timeline(
        "EmbedqModelDrifts",
        {_UP: held(1, 900), 'embedq_drift_found{instance="a:9100",model="m"}': switched(0, 1)},
        well=55,
        fires=65,
        over=125,
    ),
)
