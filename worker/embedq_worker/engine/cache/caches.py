"""The caches of all kinds of vectors that this process asks for; while they are off, nothing at all."""

from __future__ import annotations

import asyncio

import msgspec

from embedq_worker.cancelling import cancel_all
from embedq_worker.catalogue import Model
from embedq_worker.engine.cache.claimant import Claimant
from embedq_worker.engine.cache.queue import CacheQueue
from embedq_worker.engine.cache.vector_cache import VectorCache
from embedq_worker.engine.texts import Asker, Shape
from embedq_worker.settings import Settings
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.vector_cache import Kind

_encoder = msgspec.json.Encoder(order="sorted")


class Caches:
    """One cache for each model and size of vectors; one claimant and one queue for all."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._days = settings.worker.vector_cache_days
        self._claimant = Claimant(database, settings.worker.lease)
        self._queue = CacheQueue(database, self._claimant)
        self._caches: dict[Kind, VectorCache] = {}
        self._looking: list[asyncio.Task[None]] = []
        self._working: list[asyncio.Task[None]] = []

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [*self._looking, *self._working]

    def start(self) -> None:
        """Start working, unless the caches are off."""
        if self._days:
            runs = (self._claimant.run(), self._queue.run())
            self._working = [asyncio.create_task(run) for run in runs]

    def before(self, dispatcher: Asker, model: Model, dimensions: int) -> Asker:
        """Whom to ask for document vectors: the cache before the model's dispatcher, if it is on."""
        if not self._days:
            return dispatcher
        kind = kind_of(model, Shape(dimensions, "document"), self._settings.api_base_url)
        cache = self._caches.get(kind)
        if cache is None:
            cache = self._caches[kind] = VectorCache(
                kind, dispatcher, database=self._database, claimant=self._claimant, queue=self._queue
            )
            self._looking.append(asyncio.create_task(cache.run()))
        return cache

    def let_go(self) -> None:
        """What only those wait for who wait no more is not asked for."""
        for cache in self._caches.values():
            cache.let_go()

    async def finish(self) -> None:
        """After the last call: write what has come, and let others ask for what has not."""
        await cancel_all(self._looking)
        if self._days:
            await self._queue.finish()
            await self._claimant.leave()


def kind_of(model: Model, shape: Shape, api_base_url: str) -> Kind:
    """What a model's vectors must have in common to be interchangeable.

    The service is part of it: another server's model of the same name may be another one.
    """
    is_document = shape.purpose == "document"
    shaped_by = {
        **shape._asdict(),
        "parameters": model.document_parameters if is_document else model.query_parameters,
        "prefix": model.document_prefix if is_document else model.query_prefix,
        "service": model.base_url or api_base_url,
    }
    return Kind(model.id, _encoder.encode(shaped_by).decode())
