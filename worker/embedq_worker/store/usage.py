"""What answered calls cost, as ``embedq.usage`` has it, by day, model, collection, source and purpose."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from psycopg.rows import class_row

from embedq_sql import statement
from embedq_worker.store.postgres.connections import Connection, store_errors

if TYPE_CHECKING:  # commands read usage, and start sooner without the workers' pool
    from embedq_worker.store.postgres.database import Database

UsagePurpose = Literal["documents", "queries", "fill", "drift"]
"""What vectors were wanted for: ``fill`` is all that a collection's move to another model costs."""
By = Literal["day", "model", "collection", "source"]
Scope = Literal["model", "collection"]


class Account(NamedTuple):
    """What usage is added up by; ``source`` is empty where the producer did not name itself."""

    model: str
    collection: str
    source: str
    purpose: UsagePurpose


class Charge(NamedTuple):
    """What was used on one account; ``cost`` in US dollars. The comments in ``schema.sql`` say more."""

    account: Account
    calls: int
    texts: int
    tokens: int
    estimated_tokens: int
    unpriced_tokens: int
    cost: Decimal


class UsageReport(NamedTuple):
    """What a process has used since its last report. ``number`` counts its reports: each is counted once."""

    process: str
    number: int
    charges: Sequence[Charge]


class UsageToday(msgspec.Struct, frozen=True, kw_only=True):
    """What a model or a collection has cost since midnight UTC, and its budget for a day; dollars are US."""

    scope: Scope
    name: str
    tokens: int
    unpriced_tokens: int
    """Of these: of models without a known price, which add nothing to ``cost``."""
    cost: Decimal
    budget_dollars: Decimal | None
    budget_tokens: int | None
    is_spent: bool
    """Whether its texts wait for midnight, or for a higher budget."""

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return self.budget_dollars is not None or self.budget_tokens is not None


class UsageSum(msgspec.Struct, frozen=True, kw_only=True):
    """What was used under one ``key``; None: by producers that did not name themselves."""

    key: str | None
    calls: int
    texts: int
    tokens: int
    estimated_tokens: int
    unpriced_tokens: int
    cost: Decimal | None
    """US dollars; None where no price is known."""


async def settle(database: Database, report: UsageReport | None) -> list[UsageToday]:
    """Have a report counted, if there is one, and say what all processes have used today.

    A report that was counted before is not counted again: where the connection was lost and nobody knows
    whether it was, send it again. Raises ``StoreError``.
    """
    async with database.connection() as connection:
        if report is not None:
            await connection.execute(statement("add_usage"), _values(report))
        cursor = connection.cursor(row_factory=class_row(UsageToday))
        await cursor.execute(statement("usage_today"))
        return await cursor.fetchall()


async def forget_reports(database: Database) -> None:
    """Forget processes that have not reported for a week. Raises ``StoreError``."""
    async with database.connection() as connection:
        await connection.execute(statement("forget_usage_reports"))


def usage_today(connection: Connection) -> list[UsageToday]:
    """Today's usage of each model and each collection, and their budgets. Raises ``StoreError``."""
    with (
        store_errors("the usage of today was not read"),
        connection.cursor(row_factory=class_row(UsageToday)) as cursor,
    ):
        return cursor.execute(statement("usage_today")).fetchall()


def usage_by(connection: Connection, by: By, days: int) -> list[UsageSum]:
    """The usage of the last ``days``, today among them, added up. Raises ``StoreError``."""
    with store_errors("the usage was not read"), connection.cursor(row_factory=class_row(UsageSum)) as cursor:
        return cursor.execute(statement("usage_by"), {"by": by, "days": days}).fetchall()


def stored_hashes(connection: Connection, collection_id: int, ids: Sequence[str]) -> dict[str, bytes]:
    """The content hashes of those ids of a collection that are stored. Raises ``StoreError``."""
    with store_errors("the ledger was not read"):
        values = {"collection_id": collection_id, "ids": list(ids)}
        return dict(connection.execute(statement("stored_hashes"), values).fetchall())


def _values(report: UsageReport) -> dict[str, Any]:
    charges = report.charges
    accounts = {name: [getattr(each.account, name) for each in charges] for name in Account._fields}
    counts = {name: [getattr(each, name) for each in charges] for name in Charge._fields[1:]}
    return {"process": report.process, "number": report.number, **accounts, **counts}
