"""Of the drift check."""

from __future__ import annotations

from tests.alerts.timeline import UP, Timeline, counted, held, switched, then

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
        {UP: held(1, 1200), _OVERDUE: then(counted(86_345, 5, 1000), held(0, 200))},
        well=950,
        fires=975,
        over=1005,
        labels={"model": "m"},
    ),
    Timeline(  # it is paused, and has an alert of its own
        "EmbedqModelPaused",
        {
            UP: held(1, 1000),
            _OVERDUE: held(90_000, 1000),
            'embedq_fleet_paused{instance="a:9100",model="m",reason="key"}': held(1, 1000),
        },
        well=5,
        fires=910,
        over=None,
    ),
)
