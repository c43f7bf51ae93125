"""One run: transactions under kills, Redis emptied among them, the wait for what is left, the verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import redis

from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.settings import Settings
from embedq_worker.store.collections import create_collection
from tests.chaos import reading
from tests.chaos.deeds import Deeds
from tests.chaos.history import History
from tests.chaos.options import Options
from tests.chaos.outbox.comparing import compare
from tests.chaos.outbox.crew import ForkedCrew
from tests.chaos.outbox.load import Transaction
from tests.chaos.outbox.report import NOTHING, Report, UnderWay
from tests.chaos.outbox.writing import COLLECTION, TABLE, Writing
from tests.chaos.world import MODEL, World

_LOOK_EVERY = 0.1
_SURE = 3
"""Looks in a row that find nothing left."""
_ROWS = "SELECT count(*) FROM embedq.outbox"
_SENT_ROWS = "SELECT count(*) FROM embedq.outbox JOIN embedq.broker USING (epoch)"
_UNSENT_ROWS = "SELECT count(*) FROM embedq.outbox AS held JOIN embedq.broker ON held.epoch < broker.epoch"
_AWAY = (redis.RedisError, psycopg.OperationalError)


def run(
    world: World,
    folder: Path,
    options: Options,
    transactions: Sequence[Transaction],
    *,
    writers: int = 4,
    flush_at: float = 0.5,
) -> Report:
    """Do ``transactions`` while the deeds are done, wait for the rest, and compare everything.

    Redis is emptied after the share ``flush_at`` of them, as soon as something in it is not done; after the
    last of them, once all of it is sent.
    """
    _prepare(world)
    with History(folder) as history:
        crew = ForkedCrew(world.environment, folder=folder, history=history, options=options)
        writing = Writing(world.database_url, transactions, writers=writers, rate=options.rate)
        running = _Running(world, crew, writing, history, options, flush_at * len(transactions))
        with crew:
            crew.wait_until_ready()
            running.work(Deeds(world, crew, history, options))
            left = running.settle()
        found = reading.read(world.database_url, [COLLECTION])
        report = Report(
            comparison=compare(_committed(world), found.rows),
            left=left,
            letters=len(found.letters),
            transactions=writing.counts,
            deeds=history.counts,
            emptied=running.emptied,
            seconds=time.monotonic() - history.began,
            folder=folder,
        )
        history.note("outcome", broken=report.broken)
    return report


@dataclass
class _Running:
    """A run while it lasts."""

    world: World
    crew: ForkedCrew
    writing: Writing
    history: History
    options: Options
    flush_after: float
    """Transactions."""
    emptied: UnderWay = NOTHING

    def work(self, deeds: Deeds) -> None:
        """Until everything is written and done, or the time is up."""
        until = time.monotonic() + self.options.minutes * 60
        self.writing.start()
        deeds.start()
        try:
            while time.monotonic() < until and not deeds.is_over and not self._is_done():
                with suppress(*_AWAY):
                    self._flush_when_due()
                time.sleep(_LOOK_EVERY)
        finally:
            try:
                deeds.stop()
            finally:
                self.writing.stop()

    def settle(self) -> UnderWay:
        """Wait until nothing is left; returns what still is."""
        until, looks, left = time.monotonic() + self.options.settle, 0, self._left()
        while looks < _SURE and time.monotonic() < until:
            left = self._left()
            looks = looks + 1 if left == NOTHING else 0
            time.sleep(_LOOK_EVERY)
        return left

    def _is_done(self) -> bool:
        """Whether all is written, and nothing is left, or Redis was emptied last of all.

        False while a server is away.
        """
        try:
            left = self._left()
        except _AWAY:
            return False
        self.history.note("left", rows=left.rows, messages=left.messages)
        is_emptied_last = self.emptied != NOTHING and self.flush_after >= self.writing.planned
        return self.writing.is_over and (left == NOTHING or is_emptied_last)

    def _left(self) -> UnderWay:
        return UnderWay(_ask(self.world, _ROWS), self.world.pending())

    def _flush_when_due(self) -> None:
        """Empty Redis, once: everything in it is gone, the registry and the epoch too.

        A worker dies with it: what it has in hand would be stored all the same.
        """
        if self.emptied != NOTHING or self.writing.done < self.flush_after:
            return
        messages = self.world.pending()
        if messages and not (self.writing.is_over and _ask(self.world, _UNSENT_ROWS)):
            for hand in self.crew.running()[:1]:
                self.crew.kill(hand)
            self.emptied = UnderWay(_ask(self.world, _SENT_ROWS), messages)
            self.world.broker.flushall()
            self.history.note("redis emptied", rows=self.emptied.rows, messages=messages)


def _prepare(world: World) -> None:
    """The application's table, and its collection with versions by the clock."""
    settings = Settings.from_environment(world.environment)
    with open_database(settings) as connection, open_broker(settings) as broker:
        connection.execute(TABLE)
        create_collection(connection, name=COLLECTION, model=settings.catalogue.usable(MODEL))
        publish(connection, broker, settings)


def _committed(world: World) -> dict[str, str]:
    with psycopg.connect(world.database_url) as connection:
        return dict(connection.execute("SELECT id, body FROM purchase").fetchall())


def _ask(world: World, query: LiteralString) -> int:
    with psycopg.connect(world.database_url) as connection:
        (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)
