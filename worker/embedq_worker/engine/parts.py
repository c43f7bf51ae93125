"""The parts of the engine: everything that lives on its loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from embedq_worker.api.client import ApiClient
from embedq_worker.cancelling import cancel_all, finish_or_end
from embedq_worker.catalogue import Model
from embedq_worker.engine.burial_queue import BurialQueue
from embedq_worker.engine.cache.caches import Caches
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.delivery import Delivery
from embedq_worker.engine.directory import Directory
from embedq_worker.engine.drift_check import DriftCheck
from embedq_worker.engine.housekeeping import Housekeeping
from embedq_worker.engine.money.usage_keeper import UsageKeeper
from embedq_worker.engine.monitoring.fleet_readings import FleetReadings
from embedq_worker.engine.monitoring.health import Health
from embedq_worker.engine.monitoring.probes import Probes, listen_to
from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.engine.monitoring.queue_labels import labels_of
from embedq_worker.engine.monitoring.queue_meter import QueueMeters
from embedq_worker.engine.monitoring.scraping import Scraping
from embedq_worker.engine.outbox.backfill import Backfill
from embedq_worker.engine.outbox.relayed import is_relayed
from embedq_worker.engine.outbox.relaying import Relaying
from embedq_worker.engine.outbox.sweep import Sweep
from embedq_worker.engine.pipelines import Pipelines
from embedq_worker.engine.queries import Queries
from embedq_worker.engine.taking import Taking
from embedq_worker.limiter import Limiter
from embedq_worker.settings import Settings
from embedq_worker.store.postgres.database import Database
from embedq_worker.tracing import TRACES
from embedq_worker.tracing.provider import provider_of

_CALL_FOR = 0.8
"""Of the drain time, how long calls are made for items of which a part is paid for; then all is written."""


class Parts:
    """Everything that lives on the engine's loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_queues: Callable[[frozenset[str]], None],
        on_budgets: Callable[[], None],
        may_call: Callable[[], bool],
        hub: Pulse,
    ) -> None:
        self._settings = settings
        self._on_budgets = on_budgets
        self._is_leased = may_call
        self._database = Database(
            settings.database_url,
            connections=settings.worker.database_connections,
            timeout=settings.worker.database_timeout,
        )
        self._redis = redis.Redis(connection_pool=_connections(settings.broker_url))
        self._limiter = Limiter(
            settings.broker_url, lease=settings.worker.lease, key_prefix=settings.key_prefix
        )
        self._client = ApiClient(settings)
        self._burials = BurialQueue(self._database)
        self._usage = UsageKeeper(self._database, self._follow_budgets)
        self._caches = Caches(settings, self._database)
        self._queries = Queries(self._redis, settings.key_prefix)
        self._directory = Directory(
            self._database,
            settings,
            on_queues=on_queues,
            on_dropped=lambda dropped: self._pipelines.end(dropped),
            on_changed=lambda: self._pipelines.follow(),
        )
        self._pipelines = Pipelines(
            directory=self._directory,
            database=self._database,
            burials=self._burials,
            caches=self._caches,
            dispatcher_of=self._dispatcher,
            let_go=self._let_go_of_gone,
        )
        meters = QueueMeters()
        self._taking = Taking(
            directory=self._directory,
            queries=self._queries,
            burials=self._burials,
            meters=meters,
            pipeline_of=self._pipelines.of,
            dispatcher_of=self._dispatcher,
        )
        self._drift_check = DriftCheck(
            settings, self._database, served=self._directory.all, dispatcher_of=self._dispatcher
        )
        self._relaying = Relaying(settings, self._database, self._redis, self.is_held)
        self._heard = Pulse()
        self._health = Health(
            patience=settings.worker.message_lease,
            hub=hub,
            redis=self._heard,
            outage=self._database.outage,
            has_begun=lambda: self._directory.has_looked,
        )
        readings = FleetReadings(settings, self._redis, self._database)
        self._scraping = Scraping(self._directory, meters, readings, self._health)
        self._dispatchers: dict[str, Dispatcher] = {}
        self._dispatching: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, chores: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Start all of them; ``chores`` run beside them."""
        works = [*chores, self._burials.run(), self._directory.keep_current(), self._usage.run()]
        self._tasks = [asyncio.create_task(work) for work in works]
        TRACES.open(provider_of())
        await self._database.open()
        await self._client.__aenter__()
        if self._settings.metrics_port is not None:
            host, port = self._settings.metrics_host, self._settings.metrics_port
            probes = Probes(self._health, self._scraping.prepare, host=host, port=port)
            heard = listen_to(self._redis, self._heard)
            self._tasks += [asyncio.create_task(probes.run()), asyncio.create_task(heard)]
        self._caches.start()
        keeper, filler = Housekeeping(self._database, self._settings.worker), Backfill(self._database)
        sweep = Sweep(self._database).run()
        for work in (keeper.run(), filler.run(), sweep, self._drift_check.run(), self._relaying.run()):
            self._tasks.append(asyncio.create_task(work))

    def _may_call(self) -> bool:
        """Not while others may have what is in hand; nor while the answers could not be written."""
        return self._is_leased() and self._database.outage.reason is None

    def release(self) -> None:
        """Let go of all that waits; it ends as withdrawn."""
        self._taking.release()
        for pipeline in self._pipelines:
            pipeline.withdraw()
        self._let_go_of_gone()

    def is_held(self, queue: str) -> bool:
        """Whether texts of a queue wait for money, or for a paused model. From any thread."""
        served = self._directory.served(labels_of(queue)[0])
        if served is None:
            return False
        dispatcher = self._dispatchers.get(served.model.id)
        if dispatcher is None:  # nothing of the model is in hand here
            return self._usage.purse(served.model).lacks_money(served.collection.name)
        return dispatcher.is_held(served.collection.name)

    async def drain(self) -> None:
        """Release; let calls in flight be answered and written, and make those alone that what is paid needs.

        An item whose text was split needs all its chunks. With the cache of vectors on they are in it, and
        need not be waited for.
        """
        self._taking.is_draining = self._health.is_draining = True
        self._drift_check.let_go()
        self._relaying.let_go()
        if not self._settings.worker.vector_cache_days:
            for pipeline in self._pipelines:
                pipeline.keep_paid()
        self.release()
        await self._finish_wanted()
        for pipeline in self._pipelines:
            pipeline.throw_away()
        for task in self._dispatching:
            task.cancel()
        # All at once: one that waits for a slow model must not leave the others calling.
        await asyncio.gather(*(dispatcher.finish_calls() for dispatcher in self._dispatchers.values()))
        await self._finish_storing()

    async def _finish_wanted(self) -> None:
        try:
            async with asyncio.timeout(_CALL_FOR * self._settings.worker.drain_time):
                await asyncio.gather(*(each.finish_wanted() for each in self._dispatchers.values()))
        except TimeoutError:
            pass

    async def _finish_storing(self) -> None:
        """Until all that came is stored; where there is no schema to store it in, nobody waits for one."""
        await finish_or_end(self._store_all(), lambda: self._database.outage.lacks_schema)

    async def _store_all(self) -> None:
        for pipeline in self._pipelines:
            await pipeline.finish_writes()
        await self._burials.finish()
        await self._queries.finish()
        await self._caches.finish()
        await self._usage.finish()
        await self._relaying.finish()

    async def close(self) -> None:
        """End all of them; what is unfinished stays so."""
        tasks = [*self._tasks, *self._taking.tasks, *self._dispatching, *self._caches.tasks]
        tasks += self._drift_check.tasks
        tasks += self._scraping.tasks
        tasks += self._pipelines.tasks
        tasks += [task for dispatcher in self._dispatchers.values() for task in dispatcher.tasks]
        await cancel_all(tasks)
        await self._client.__aexit__(None, None, None)
        await self._limiter.close()
        await self._redis.aclose()
        await self._database.close()
        await asyncio.to_thread(TRACES.close)

    def take(self, delivery: Delivery) -> None:
        """Read a message's content and send its items on their way."""
        if is_relayed(delivery.headers):
            self._relaying.when_marked(partial(self._taking.take, delivery))
        else:
            self._taking.take(delivery)

    def _let_go_of_gone(self) -> None:
        self._caches.let_go()
        for dispatcher in self._dispatchers.values():
            dispatcher.let_go()

    def _follow_budgets(self) -> None:
        for dispatcher in self._dispatchers.values():
            dispatcher.follow_budgets()
        self._on_budgets()

    def _dispatcher(self, model: Model) -> Dispatcher:
        dispatcher = self._dispatchers.get(model.id)
        if dispatcher is None:
            worker = self._settings.worker
            dispatcher = self._dispatchers[model.id] = Dispatcher(
                model,
                client=self._client,
                limiter=self._limiter,
                batch_wait=worker.batch_wait,
                retry_time=worker.retry_time,
                purse=self._usage.purse(model),
                may_call=self._may_call,
            )
            self._dispatching.append(asyncio.create_task(dispatcher.run()))
        return dispatcher


def _connections(broker_url: str) -> redis.BlockingConnectionPool:
    """Connections for replies: a flood waits for one, where redis-py's usual pool refuses the 101st."""
    return redis.BlockingConnectionPool.from_url(
        broker_url,
        max_connections=16,
        timeout=20,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=Retry(NoBackoff(), 1),  # for a pooled connection that the server has closed
    )
