"""Of Redis and Postgres."""

from __future__ import annotations

from tests.alerts.timeline import UP, Timeline, counted, held, switched, then

TIMELINES = (
    Timeline(
        "EmbedqRedisAway",
        {UP: held(1, 600), 'embedq_outage{instance="a:9100",server="redis"}': switched(0, 1)},
        well=65,
        fires=75,
        over=125,
    ),
    Timeline(
        "EmbedqPostgresAway",
        {UP: held(1, 600), 'embedq_outage{instance="a:9100",server="postgres"}': switched(0, 1)},
        well=65,
        fires=75,
        over=125,
    ),
    Timeline(
        "EmbedqServerUnsteady",
        {
            UP: held(1, 2000),
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
            UP: held(1, 600),
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
)
