"""Of the worker processes."""

from __future__ import annotations

from tests.alerts.timeline import STARTED, UP, Timeline, appeared, burst, held, switched, then

_OTHER_UP = 'up{job="embedq",instance="b:9100"}'
_TAKEN_OVER = 'embedq_taken_over_messages_total{job="embedq",instance="a:9100"}'

TIMELINES = (
    Timeline(
        "EmbedqNoWorkers",
        {UP: switched(1, 0)},
        well=75,
        fires=95,
        over=125,
        also=("EmbedqWorkerDown",),
    ),
    Timeline(
        "EmbedqWorkerDown",
        {UP: held(1, 600), _OTHER_UP: switched(1, 0)},
        well=75,
        fires=85,
        over=125,
        labels={"instance": "b:9100"},
    ),
    Timeline(
        "EmbedqWorkerNotReady",
        {
            UP: held(1, 600),
            'embedq_ready{job="embedq",instance="a:9100"}': switched(1, 0, 120),
            'embedq_outage{job="embedq",instance="a:9100",server="redis"}': held(0, 600),
        },
        well=110,
        fires=125,
        over=185,
    ),
    Timeline(
        "EmbedqWorkerLost",
        {UP: held(1, 600), _TAKEN_OVER: burst(7)},
        well=55,
        fires=65,
        over=365,
    ),
    Timeline(  # by a process that had done so before anybody asked it
        "EmbedqWorkerLost",
        {UP: held(1, 600), STARTED: then("_x12", held(58, 1200)), _TAKEN_OVER: appeared(7)},
        well=55,
        fires=65,
        over=None,
    ),
    Timeline(
        "EmbedqWorkerRestarts",
        {
            UP: held(1, 2000),
            STARTED: then(held(1, 60), held(70, 60), held(130, 60), held(190, 1500)),
        },
        well=175,
        fires=185,
        over=730,
    ),
)
