"""Money and tokens spent today, and what may be spent."""

from __future__ import annotations

from embedq_worker.metrics.reading import Reading

SPENT = Reading(
    "embedq_fleet_spent_dollars",
    "US dollars that a model or a collection cost since midnight UTC.",
    ["scope", "name"],
    unit="dollars",
)
BUDGET = Reading(
    "embedq_fleet_budget_dollars",
    "US dollars a day that a model or a collection may cost.",
    ["scope", "name"],
    unit="dollars",
)
SPENT_TOKENS = Reading(
    "embedq_fleet_spent_tokens",
    "Tokens that a model or a collection used since midnight UTC.",
    ["scope", "name"],
    unit="tokens",
)
BUDGET_TOKENS = Reading(
    "embedq_fleet_budget_tokens",
    "Tokens a day that a model or a collection may use.",
    ["scope", "name"],
    unit="tokens",
)
IS_SPENT = Reading(
    "embedq_fleet_budget_spent",
    "1 while a budget for today, of dollars or of tokens, is spent, so that texts wait; else 0.",
    ["scope", "name"],
)
