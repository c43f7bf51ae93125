"""The keeper of usage: reports what this process has used, once a second and at its end.

With it comes what all processes have used today, by which budgets hold. A report is kept until Postgres has
counted it. Where the connection was lost and nobody knows whether it did,
the same report is sent again, which Postgres counts once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence

from embedq_worker.catalogue import Model
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.money.budgets import Budgets
from embedq_worker.engine.money.purse import Purse
from embedq_worker.engine.money.usage import Usage
from embedq_worker.engine.steady import steadily
from embedq_worker.errors import CollectionGone, NotMigrated
from embedq_worker.metrics import budget
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.usage import UsageReport, UsageToday, settle

REPORT_EVERY = 1.0
"""Seconds between two reports. A process that is killed loses what it used since the last one, and a budget
that is spent elsewhere is heard of as much later."""


class UsageKeeper:
    """One a process. ``on_changed`` is called when other texts have to wait for money than before."""

    def __init__(self, database: Database, on_changed: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._usage = Usage()
        self._budgets = Budgets(on_changed)
        self._process = uuid.uuid4().hex
        self._number = 0
        self._report: UsageReport | None = None
        """What Postgres has not counted yet, as far as we know."""
        self._reporting = asyncio.Lock()

    def purse(self, model: Model) -> Purse:
        """A purse for a model's dispatcher."""
        return Purse(model, self._usage, self._budgets)

    async def run(self) -> None:
        """Report for ever."""
        await steadily(self._report_and_sleep, "reporting usage")

    async def finish(self) -> None:
        """After the last call: report the rest."""
        await self._report_now()

    async def _report_and_sleep(self) -> None:
        await self._report_now()
        await asyncio.sleep(REPORT_EVERY)

    async def _report_now(self) -> None:
        async with self._reporting:
            await insist(self._settle, "reporting usage", self._database.outage, also=NotMigrated)

    async def _settle(self) -> None:
        if self._report is None and (charges := self._usage.take()):
            self._number += 1
            self._report = UsageReport(self._process, self._number, charges)
        try:
            today = await settle(self._database, self._report)
        except CollectionGone:
            raise NotMigrated from None
        self._report = None
        self._budgets.refresh(today, self._usage.charges)
        _measure(today)


def _measure(today: Sequence[UsageToday]) -> None:
    """For the metrics, which are in floats."""
    named: dict[tuple[str, ...], UsageToday] = {(each.scope, each.name): each for each in today}
    budget.SPENT.replace({name: float(each.cost) for name, each in named.items()})
    budget.SPENT_TOKENS.replace({name: float(each.tokens) for name, each in named.items()})
    dollars = {name: each.budget_dollars for name, each in named.items()}
    budget.BUDGET.replace({name: float(most) for name, most in dollars.items() if most is not None})
    tokens = {name: each.budget_tokens for name, each in named.items()}
    budget.BUDGET_TOKENS.replace({name: float(most) for name, most in tokens.items() if most is not None})
    budget.IS_SPENT.replace({name: float(each.is_spent) for name, each in named.items() if each.is_limited})
