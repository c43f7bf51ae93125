"""Of the drift check."""

from __future__ import annotations

from tests.alerts.timeline import UP, Timeline, counted, held, switched

_OVERDUE = 'embedq_drift_overdue_seconds{instance="a:9100",model="m"}'

TIMELINES = (
    Timeline(
        "EmbedqModelDrifts",
        {UP: held(1, 900), 'embedq_drift_found{instance="a:9100",model="m"}': switched(0, 1)},
        well=55,
        fires=65,
        over=125,
    ),
    Timeline(
        "EmbedqDriftUnchecked",
        {UP: held(1, 3000), _OVERDUE: counted(86_000, 5, 3000)},
        well=1290,
        fires=1310,
        over=None,
        labels={"model": "m"},
    ),
    Timeline(  # it is paused, and has an alert of its own
        "EmbedqModelPaused",
        {
            UP: held(1, 3000),
            _OVERDUE: counted(90_000, 5, 3000),
            'embedq_fleet_paused{instance="a:9100",model="m",reason="key"}': held(1, 3000),
        },
        well=5,
        fires=1500,
        over=None,
    ),
)
