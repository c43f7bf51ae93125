"""Budgets: what a model or a collection may cost a day, as ``embedq.budget`` has it."""

from __future__ import annotations

from decimal import Decimal

from embedq_sql import statement
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.usage import Scope

MOST_DOLLARS = 1_000_000_000
MOST_TOKENS = 10**15


def set_budget(
    connection: Connection, scope: Scope, name: str, dollars: Decimal | None, tokens: int | None
) -> None:
    """Set a budget for a day, in place of the one that there was; None: not limited. Workers heed it within
    about a second. Raises ``StoreError``."""
    values = {"scope": scope, "name": name, "dollars": dollars, "tokens": tokens}
    with store_errors(f"the budget of {scope} {name} was not set"):
        connection.execute(statement("set_budget"), values)


def reset_budget(connection: Connection, scope: Scope, name: str) -> bool:
    """Remove a budget; whether there was one. Raises ``StoreError``."""
    with store_errors(f"the budget of {scope} {name} was not removed"):
        return connection.execute(statement("reset_budget"), {"scope": scope, "name": name}).rowcount > 0
