"""Of the texts: dead letters, queues, the outbox, watched tables."""

from __future__ import annotations

from tests.alerts.timeline import STARTED, UP, Timeline, appeared, burst, counted, held, switched, then

_STORED = 'embedq_items_total{instance="a:9100",collection="docs",lane="bulk",outcome="stored"}'
_DEAD = 'embedq_items_total{instance="a:9100",collection="docs",lane="bulk",outcome="dead"}'
_LETTERS = 'embedq_dead_letters_total{instance="a:9100",collection="docs",cause="text"}'
_EMPTIED = 'embedq_redis_emptied_total{job="embedq",instance="a:9100"}'

TIMELINES = (
    Timeline(
        "EmbedqDeadLetters",
        {
            UP: held(1, 600),
            _LETTERS: burst(1),
        },
        well=55,
        fires=65,
        over=365,
        labels={"collection": "docs", "cause": "text"},
    ),
    Timeline(
        "EmbedqDeadLetters",
        {
            UP: held(1, 600),
            _LETTERS: appeared(1),
        },
        well=55,
        fires=65,
        over=365,
    ),
    Timeline(
        "EmbedqManyDeadLetters",
        {
            UP: held(1, 2000),
            _STORED: counted(0, 10, 2000),
            _DEAD: burst(50),
            _LETTERS: burst(50),
        },
        well=55,
        fires=70,
        over=700,
        also=("EmbedqDeadLetters",),
    ),
    Timeline(  # the first letters of a collection, all at once, and so with its first items
        "EmbedqManyDeadLetters",
        {
            UP: held(1, 2000),
            _STORED: appeared(900),
            _DEAD: appeared(50),
            _LETTERS: appeared(50),
        },
        well=55,
        fires=70,
        over=None,
        also=("EmbedqDeadLetters",),
        labels={"collection": "docs"},
    ),
    Timeline(  # few among the first items: the other alert alone
        "EmbedqDeadLetters",
        {
            UP: held(1, 2000),
            _STORED: appeared(900),
            _DEAD: appeared(30),
            _LETTERS: appeared(30),
        },
        well=55,
        fires=70,
        over=None,
    ),
    Timeline(
        "EmbedqQueueStalled",
        {
            UP: held(1, 900),
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
            UP: held(1, 900),
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
            UP: held(1, 900),
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
            UP: held(1, 900),
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
        {UP: held(1, 900), _EMPTIED: burst(1)},
        well=55,
        fires=70,
        over=680,
    ),
    Timeline(  # neither is told of long ago, although a page was missed since
        "EmbedqNoWorkers",
        {
            UP: then(held(1, 420), held(0, 100)),
            STARTED: held(-9000, 500),
            _EMPTIED: then(held(1, 60), "stale", held(1, 440)),
            _LETTERS: then(held(9, 60), "stale", held(9, 440)),
            _STORED: then(held(9, 60), "stale", held(9, 440)),
        },
        well=360,
        fires=460,
        over=None,
        also=("EmbedqWorkerDown",),
    ),
    Timeline(  # by a process that found it so as it started
        "EmbedqRedisEmptied",
        {UP: held(1, 900), STARTED: then("_x12", held(58, 1200)), _EMPTIED: appeared(1)},
        well=55,
        fires=70,
        over=None,
    ),
    Timeline(
        "EmbedqSuspectsWait",
        {UP: held(1, 2000), 'embedq_fleet_suspects{instance="a:9100"}': switched(0, 3, 900)},
        well=600,
        fires=720,
        over=980,
    ),
)
