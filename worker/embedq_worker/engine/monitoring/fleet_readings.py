"""Reading the fleet for the metrics: queues, workers and models from Redis, the rest from Postgres.

It is read while pages are asked for, in every process: lengths, ends and reports, never all that is queued.
What cannot be read keeps its last values, which are left out of a page once they are too old to be true.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

from embedq.contract import queue_name
from embedq_worker.catalogue import Catalogue
from embedq_worker.engine.monitoring.queue_labels import labels_of
from embedq_worker.engine.monitoring.watch import Watch
from embedq_worker.errors import StoreError
from embedq_worker.limiter import Limits
from embedq_worker.limiter.board import ModelBoard, read_boards
from embedq_worker.limiter.reasons import change_kind, pause_kind
from embedq_worker.logs import failure, get_logger
from embedq_worker.metrics import fleet, outbox
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.dead_letters.listing import count_some_dead_letters
from embedq_worker.store.fleet.queues import LANES, Queue, read_queues_async
from embedq_worker.store.fleet.reports import Fleet, read_fleet_async
from embedq_worker.store.outbox.unsettled import count_some_unsent
from embedq_worker.store.postgres.database import Database

logger = get_logger(__name__)

PATIENCE = 5.0
"""Seconds that Postgres has for counting."""
COUNT_EVERY = 30.0
"""Seconds from one count of dead letters, and of the outbox, to the next: each process reads up to a thousand
index entries a collection and lane. Where collections came or went they are counted as soon as the queues are
read again."""
_RELAYED = ("live", "bulk")
"""The lanes of the outbox, by whether they are bulk."""


class FleetReadings:
    """Of all collections that there are, whatever this process serves."""

    def __init__(self, settings: Settings, client: redis.Redis, database: Database) -> None:
        self._prefix = settings.key_prefix
        self._catalogue = settings.catalogue
        self._redis = client
        self._database = database
        self._collections: Sequence[Collection] = ()
        self._letters = Watch(self._look_at_postgres, every=COUNT_EVERY)
        self._watches = [Watch(self._look_at_redis), self._letters]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is being read."""
        return [task for watch in self._watches for task in watch.tasks]

    async def read(self, collections: Sequence[Collection]) -> None:
        """Read what was not read just now; where a server does not answer, go on without it."""
        if {each.name for each in collections} != {each.name for each in self._collections}:
            self._letters.hurry()
        self._collections = collections
        fleet.COLLECTIONS.replace({(each.name, each.model): 1.0 for each in collections})
        await asyncio.gather(*(watch.ask() for watch in self._watches))

    async def _look_at_redis(self) -> None:
        try:
            _tell_queues(await self._read_queues())
            _tell_workers(await read_fleet_async(self._redis, self._prefix))
            _tell_models(await read_boards(self._redis, self._models(), self._prefix), self._catalogue)
        except (RedisError, OSError):
            return  # embedq_outage says so
        except Exception as error:
            logger.error(
                "fleet_not_read", "for the metrics Redis could not be read: {error}", **failure(error)
            )

    async def _look_at_postgres(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                counted = await count_some_dead_letters(self._database)
                unsent = await count_some_unsent(self._database)
        except (StoreError, TimeoutError):
            return  # likewise
        except Exception as error:
            logger.error(
                "dead_letters_not_counted",
                "for the metrics dead letters and the outbox could not be counted: {error}",
                **failure(error),
            )
        else:
            self._tell_dead_letters(counted)
            self._tell_unsent(unsent)

    async def _read_queues(self) -> dict[str, Queue]:
        names = [queue_name(each.name, lane) for each in self._collections for lane in LANES]
        return await read_queues_async(self._redis, names, self._prefix)

    def _models(self) -> list[str]:
        shadows = {each.shadow.model for each in self._collections if each.shadow is not None}
        return sorted({each.model for each in self._collections} | shadows)

    def _tell_dead_letters(self, counted: Mapping[str | None, int]) -> None:
        letters: dict[tuple[str, ...], float] = {("",): 0.0}
        letters |= {(each.name,): 0.0 for each in self._collections}
        for name, count in counted.items():
            letters[(name,) if name is not None and (name,) in letters else ("",)] += count
        fleet.DEAD_LETTERS.replace(letters)

    def _tell_unsent(self, counted: Sequence[tuple[str, bool, int]]) -> None:
        rows: dict[tuple[str, ...], float] = {
            (each.name, lane): 0.0 for each in self._collections for lane in _RELAYED
        }
        rows |= {(name, _RELAYED[is_bulk]): count for name, is_bulk, count in counted}
        outbox.UNSENT.replace(rows)


def _tell_queues(queues: Mapping[str, Queue]) -> None:
    known = {labels_of(name): queue for name, queue in queues.items() if queue.is_known}
    fleet.QUEUED.replace({labels: queue.length for labels, queue in known.items()})
    ages = {labels: queue.oldest if queue.length else 0.0 for labels, queue in known.items()}
    fleet.OLDEST.replace({labels: age for labels, age in ages.items() if age is not None})


def _tell_workers(found: Fleet) -> None:
    alive = len(found.reports) + sum(each.lease > 0 for each in found.silent)
    fleet.WORKERS.replace({(): alive})
    fleet.SUSPECTS.replace({(): sum(found.suspects.values())})


def _tell_models(boards: Sequence[ModelBoard], catalogue: Catalogue) -> None:
    fleet.IN_FLIGHT.replace({(each.model,): each.in_flight for each in boards})
    fleet.WAITING.replace({(each.model,): each.waiting for each in boards})
    fleet.COOLING.replace({(each.model,): float(each.cooling is not None) for each in boards})
    fleet.PAUSED.replace({_pause(each): float(each.paused is not None) for each in boards})
    now = time.time()
    changes = [(each.model, each.changed) for each in boards if each.changed is not None]
    fleet.SLOTS_CHANGED.replace(
        {(model, change_kind(change.why)): round(now - change.seconds_ago) for model, change in changes}
    )
    known = [
        (each, Limits.of(catalogue.models[each.model])) for each in boards if each.model in catalogue.models
    ]
    limits = {each.model: each.live.over(file) for each, file in known}
    fleet.LIMIT.replace({(model,): limit.max_concurrency for model, limit in limits.items()})
    fleet.SLOTS.replace({(each.model,): each.slots_under(limits[each.model]) for each, _ in known})


def _pause(board: ModelBoard) -> tuple[str, str]:
    return board.model, "" if board.paused is None else pause_kind(board.paused.reason)
