"""The directory.

Which collections there are, kept current while the worker runs, and published to producers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic

import redis
from psycopg import errors
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from embedq.contract import queue_name
from embedq_sql import statement
from embedq_worker.catalogue import Model
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.steady import steadily
from embedq_worker.errors import (
    BadDimensions,
    CatalogueError,
    CollectionGone,
    NotMigrated,
    RowRefused,
    StoreError,
)
from embedq_worker.logs import get_logger
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection, collection_row
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.registry import is_published, publish_registry

logger = get_logger(__name__)

_LOOK_EVERY = 2.0
"""Seconds between looks at the collections in the database."""
_FRESH = 0.5
"""Seconds for which a look is good enough for a message of an unknown collection."""


@dataclass(frozen=True, slots=True)
class Served:
    """A collection that this worker can serve, with its model, and the other one while it moves."""

    collection: Collection
    model: Model
    shadow: Model | None = None


class Directory:
    """Collections by name.

    ``on_queues`` is told the queues to consume whenever they change; ``on_dropped`` after each look the ids
    of the collections that were dropped since the worker started; ``on_changed`` when anything else is new.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        on_queues: Callable[[frozenset[str]], None],
        on_dropped: Callable[[frozenset[int]], None],
        on_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_changed = on_changed
        self._database = database
        self._settings = settings
        self._on_queues = on_queues
        self._on_dropped = on_dropped
        self._dropped: frozenset[int] = frozenset()
        self._served: dict[str, Served] = {}
        self._ever_served: set[str] = set()
        self._seen: list[Collection] | None = None
        self._redis = redis.from_url(
            settings.broker_url,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 1),  # for a connection that the server has closed; the next look is near
        )
        self._complaints: set[str] = set()
        self._missing: set[str] = set()
        self._incomplete: set[str] = set()
        self._is_unpublished = False
        self._looking = asyncio.Lock()
        self._looked_at = -inf

    def served(self, name: str) -> Served | None:
        """The collection of that name, if this worker can serve it."""
        return self._served.get(name)

    def has_served(self, name: str) -> bool:
        """Whether there was such a collection in the time of this worker."""
        return name in self._ever_served

    def all(self) -> list[Served]:
        """The collections that this worker can serve."""
        return list(self._served.values())

    @property
    def has_looked(self) -> bool:
        """Whether the collections were read at all."""
        return self._seen is not None

    @property
    def collections(self) -> Sequence[Collection]:
        """All that there are, whether this worker serves them or not; none before the first look."""
        return self._seen or ()

    async def keep_current(self) -> None:
        """Look for ever."""
        await steadily(self._look_and_sleep, "looking at the collections")

    async def _look_and_sleep(self) -> None:
        try:
            async with self._looking:  # the older of two looks at once would take new collections for dropped
                await self.look()
        except StoreError as error:
            logger.warning(
                "collections_unread", "the collections cannot be read: {reason}", reason=str(error)
            )
        await asyncio.sleep(_LOOK_EVERY)

    async def look_soon(self) -> None:
        """Look, unless somebody has just done so."""
        async with self._looking:
            if monotonic() - self._looked_at > _FRESH:
                await self.look()

    async def look_again(self) -> None:
        """Look now: somebody has met news in the database."""
        async with self._looking:
            await self.look()

    async def look(self) -> None:
        """Read the collections now, waiting for the database if it is away."""
        outage = self._database.outage
        collections = await insist(self._read, "reading the collections", outage, also=NotMigrated)
        self._looked_at = monotonic()
        if collections != self._seen:
            self._note_dropped(collections)
            self._seen = collections
            self._serve(collections)
        if self._dropped:
            self._on_dropped(self._dropped)
        await asyncio.to_thread(self._publish, collections)

    def _note_dropped(self, collections: list[Collection]) -> None:
        gone = {each.id for each in self._seen or ()} - {each.id for each in collections}
        self._dropped = (self._dropped | gone) - {each.id for each in collections}

    async def _read(self) -> list[Collection]:
        try:
            async with self._database.connection() as connection:
                cursor = connection.cursor(row_factory=collection_row)
                await cursor.execute(statement("collections"))
                return await cursor.fetchall()
        except CollectionGone:
            raise NotMigrated from None
        except RowRefused as error:
            if error.sqlstate == errors.UndefinedColumn.sqlstate:  # a schema older than this worker
                raise NotMigrated from None
            raise

    def _serve(self, collections: list[Collection]) -> None:
        wanted = self._settings.collections
        self._served = {}
        for collection in collections:
            if wanted and collection.name not in wanted:
                continue
            try:
                model = self._settings.catalogue.usable(collection.model)
                model.check_dimensions(collection.dimensions)
            except (CatalogueError, BadDimensions) as error:
                self._complain(collection.name, error)
                continue
            self._served[collection.name] = Served(collection, model, self._shadow_of(collection))
        self._ever_served |= self._served.keys()
        for name in sorted(set(wanted) - {collection.name for collection in collections}):
            self._complain_of_missing(name)
        lanes = self._settings.lanes
        self._on_queues(frozenset(queue_name(name, lane) for name in self._served for lane in lanes))
        self._on_changed()

    def _shadow_of(self, collection: Collection) -> Model | None:
        shadow = collection.shadow
        if shadow is None:
            return None
        try:
            model = self._settings.catalogue.usable(shadow.model)
            model.check_dimensions(shadow.dimensions)
        except (CatalogueError, BadDimensions) as error:
            if collection.name not in self._incomplete:
                logger.error(
                    "shadow_unserved",
                    "rows of collection {collection} are stored without the vectors of {model}: {reason}",
                    collection=collection.name,
                    model=shadow.model,
                    reason=str(error),
                )
            self._incomplete.add(collection.name)
            return None
        return model

    def _complain(self, name: str, error: CatalogueError | BadDimensions) -> None:
        if name not in self._complaints:
            sentence = "collection {collection} is not served, its jobs stay queued: {reason}"
            logger.error("collection_unserved", sentence, collection=name, reason=str(error))
        self._complaints.add(name)

    def _complain_of_missing(self, name: str) -> None:
        if name not in self._missing:
            logger.warning(
                "collection_missing",
                "there is no collection {collection}, which --collections names; it is served once it is "
                "created",
                collection=name,
            )
        self._missing.add(name)

    def _publish(self, collections: list[Collection]) -> None:
        """Set the registry right where it says something else: emptied, or written with older news."""
        prefix = self._settings.key_prefix
        try:
            if not is_published(self._redis, collections, prefix):
                publish_registry(self._redis, collections, prefix)
        except (RedisError, OSError) as error:
            self._redis.connection_pool.disconnect()  # after a failover the next look finds the new master
            if not self._is_unpublished:
                logger.warning(
                    "registry_unpublished",
                    "the registry of collections cannot be published, trying again: {error}",
                    error=type(error).__name__,
                )
            self._is_unpublished = True
        else:
            self._is_unpublished = False
