"""A timeline for each alert, at least; in the order of the rules, a module a group."""

from __future__ import annotations

from tests.alerts.timelines import drift, models, money, servers, texts, workers

TIMELINES = (
    *workers.TIMELINES,
    *servers.TIMELINES,
    *models.TIMELINES,
    *texts.TIMELINES,
    *money.TIMELINES,
    *drift.TIMELINES,
)
