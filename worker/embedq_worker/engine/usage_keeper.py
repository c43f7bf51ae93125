"""The keeper of usage: reports what this process has used, once a second and at its end.

A report is kept until Postgres has counted it. Where the connection was lost and nobody knows whether it did,
the same report is sent again, which Postgres counts once.
"""

from __future__ import annotations

import asyncio
import uuid

from embedq_worker.catalogue import Model
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.purse import Purse
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.usage import Usage
from embedq_worker.errors import CollectionGone, NotMigrated
from embedq_worker.store.database import Database
from embedq_worker.store.usage import Report, settle

REPORT_EVERY = 1.0
"""Seconds between two reports. A process that is killed loses what it used since the last one."""


class UsageKeeper:
    """One a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._usage = Usage()
        self._process = uuid.uuid4().hex
        self._number = 0
        self._report: Report | None = None
        """What Postgres has not counted yet, as far as we know."""
        self._reporting = asyncio.Lock()

    def purse(self, model: Model) -> Purse:
        """A purse for a model's dispatcher."""
        return Purse(model, self._usage)

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
            self._report = Report(self._process, self._number, charges)
        try:
            await settle(self._database, self._report)
        except CollectionGone:
            raise NotMigrated from None
        self._report = None
