"""Of budgets."""

from __future__ import annotations

from tests.alerts.timeline import UP, Timeline, held, switched

_LIVE = '{instance="a:9100",collection="docs",lane="live"}'
_WAITING = {
    f"embedq_fleet_queued_messages{_LIVE}": switched(0, 5, 300),
    f"embedq_messages_total{_LIVE}": held(7, 900),
    f"embedq_fleet_oldest_seconds{_LIVE}": switched(0, 400, 300),
    f"embedq_fleet_outbox_oldest_seconds{_LIVE}": switched(0, 400, 300),
}
"""Texts that wait for five minutes, here and in the outbox: no alert of its own where that is for money."""
_OF_MODEL = '{instance="a:9100",scope="model",name="m"}'

TIMELINES = (
    Timeline(
        "EmbedqBudgetSpent",
        {
            UP: held(1, 900),
            'embedq_fleet_budget_spent{instance="a:9100",scope="collection",name="docs"}': switched(
                0, 1, 300
            ),
            'embedq_fleet_spent_dollars{instance="a:9100",scope="collection",name="docs"}': switched(
                1, 5, 300
            ),
            'embedq_fleet_budget_dollars{instance="a:9100",scope="collection",name="docs"}': held(5, 900),
            **_WAITING,
        },
        well=55,
        fires=350,
        over=365,
        labels={"scope": "collection", "name": "docs"},
    ),
    Timeline(  # of a model: the collections that it embeds wait, and no other
        "EmbedqBudgetSpent",
        {
            UP: held(1, 900),
            f"embedq_fleet_budget_spent{_OF_MODEL}": switched(0, 1, 300),
            'embedq_fleet_collection_info{instance="a:9100",collection="docs",model="m"}': held(1, 900),
            **_WAITING,
        },
        well=55,
        fires=350,
        over=365,
        labels={"scope": "model", "name": "m"},
    ),
    Timeline(
        "EmbedqBudgetSpent",
        {
            UP: held(1, 900),
            f"embedq_fleet_budget_spent{_OF_MODEL}": switched(0, 1, 300),
            'embedq_fleet_collection_info{instance="a:9100",collection="docs",model="other"}': held(1, 900),
            **_WAITING,
        },
        well=55,
        fires=350,
        over=365,
        also=("EmbedqQueueStalled", "EmbedqQueueOld", "EmbedqOutboxOld"),
    ),
    Timeline(
        "EmbedqBudgetNearlySpent",
        {
            UP: held(1, 900),
            f"embedq_fleet_budget_spent{_OF_MODEL}": held(0, 900),
            f"embedq_fleet_spent_dollars{_OF_MODEL}": switched(3.9, 4.1),
            f"embedq_fleet_budget_dollars{_OF_MODEL}": held(5, 900),
        },
        well=55,
        fires=65,
        over=125,
        labels={"scope": "model", "name": "m"},
    ),
    Timeline(  # of tokens, where dollars are not limited
        "EmbedqBudgetNearlySpent",
        {
            UP: held(1, 900),
            f"embedq_fleet_budget_spent{_OF_MODEL}": held(0, 900),
            f"embedq_fleet_spent_dollars{_OF_MODEL}": held(99, 900),
            f"embedq_fleet_spent_tokens{_OF_MODEL}": switched(790, 810),
            f"embedq_fleet_budget_tokens{_OF_MODEL}": held(1000, 900),
        },
        well=55,
        fires=65,
        over=125,
    ),
)
