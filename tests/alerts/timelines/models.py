"""Of the models and their services."""

from __future__ import annotations

from tests.alerts.timeline import UP, Timeline, counted, held, switched, then

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
        "EmbedqModelPaused",
        {
            UP: held(1, 600),
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
            UP: held(1, 600),
            'embedq_calls_in_flight{instance="a:9100",model="m"}': held(1, 600),
            _ANSWERED: then(counted(0, 1, 60), held(11, 60), counted(12, 1, 600)),
        },
        well=95,
        fires=110,
        over=130,
    ),
    Timeline("EmbedqCallsFail", {UP: held(1, 900), **_turning("failed", 0.3)}, well=65, fires=110, over=240),
    Timeline(
        "EmbedqThrottled", {UP: held(1, 900), **_turning("throttled", 0.5)}, well=70, fires=115, over=240
    ),
    Timeline(
        "EmbedqThrottled",
        {UP: held(1, 900), 'embedq_fleet_cooling{instance="a:9100",model="m"}': switched(0, 1, 120)},
        well=80,
        fires=115,
        over=240,
    ),
)
