"""The pipelines: one for each collection that something came for, led by what the registry says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

from embedq_worker.catalogue import Model
from embedq_worker.engine.burial_queue import BurialQueue
from embedq_worker.engine.cache.caches import Caches
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.directory import Directory, Served
from embedq_worker.engine.moving.models import Models, ShadowModel
from embedq_worker.engine.pipeline import Pipeline
from embedq_worker.engine.texts import Asker
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.database import Database


class Pipelines:
    """``let_go`` is called when there are texts that nobody waits for any more."""

    def __init__(
        self,
        *,
        directory: Directory,
        database: Database,
        burials: BurialQueue,
        caches: Caches,
        dispatcher_of: Callable[[Model], Dispatcher],
        let_go: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._database = database
        self._burials = burials
        self._caches = caches
        self._dispatcher_of = dispatcher_of
        self._let_go = let_go
        self._pipelines: dict[int, Pipeline] = {}

    def __iter__(self) -> Iterator[Pipeline]:
        return iter(list(self._pipelines.values()))  # some may end while one is waited for

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What they do."""
        return [task for each in self for task in (*each.tasks, *each.filling.tasks)]

    def of(self, served: Served) -> Pipeline:
        """A collection's own."""
        pipeline = self._pipelines.get(served.collection.id)
        if pipeline is None:
            pipeline = Pipeline(
                self._models(served),
                database=self._database,
                bury=self._burials.add,
                look=partial(self._look_again, served.collection),
            )
            self._pipelines[served.collection.id] = pipeline
            pipeline.start()
        return pipeline

    def follow(self) -> None:
        """Collections that have moved: their vectors come from other models, or go to other columns."""
        has_moved = False
        for pipeline in self:
            served = self._directory.served(pipeline.collection.name)
            known = pipeline.collection
            if served is None or served.collection.id != known.id or served.collection == known:
                continue
            pipeline.follow(self._models(served))
            has_moved = True
        if has_moved:
            self._let_go()

    def end(self, dropped: frozenset[int]) -> None:
        """Items of dropped collections wait for nothing any more: not for a paused model either."""
        left = dropped & self._pipelines.keys()
        if not left:
            return
        for collection_id in left:
            self._pipelines[collection_id].let_go()
        self._let_go()
        for collection_id in [number for number, each in self._pipelines.items() if each.is_over]:
            for task in self._pipelines.pop(collection_id).tasks:
                task.cancel()

    def _models(self, served: Served) -> Models:
        collection, shadow = served.collection, served.collection.shadow
        own = self._asker(served.model, collection.dimensions)
        if shadow is None or served.shadow is None:
            return Models(collection, served.model, own)
        dispatcher = self._dispatcher_of(served.shadow)
        other = ShadowModel(
            served.shadow,
            shadow.dimensions,
            shadow.generation,
            self._asker(served.shadow, shadow.dimensions),
            lambda: dispatcher.is_paused,
        )
        return Models(collection, served.model, own, other)

    def _asker(self, model: Model, dimensions: int) -> Asker:
        return self._caches.before(self._dispatcher_of(model), model, dimensions)

    async def _look_again(self, collection: Collection) -> bool:
        """Read the registry: it is newer than what is known of a collection. Whether it is still served."""
        await self._directory.look_again()
        served = self._directory.served(collection.name)
        return served is not None and served.collection.id == collection.id
