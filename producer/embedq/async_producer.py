"""The producer for asyncio: as ``producer.py``, with nothing that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from embedq.address import Address
from embedq.async_broker import AsyncBroker
from embedq.base import ProducerBase
from embedq.contract import MAX_ITEMS, Item, Lane, queue_name
from embedq.items import OnInvalid, check_ids, delete
from embedq.query import Deadline, QueryVector
from embedq.tracing import sending

T = TypeVar("T")


class AsyncProducer(ProducerBase):
    """``Producer`` for asyncio: the same settings (``ProducerBase`` explains them), methods and errors.

    It connects when it is first used, and may be shared by tasks, and by event loops in several threads: each
    loop has connections of its own, and closes them before it ends. A call that is cancelled leaves the
    producer whole; of its items those are enqueued that were published before, and perhaps the group that was
    on its way.
    """

    def _open(self, address: Address) -> None:
        self._broker = AsyncBroker(address)

    async def enqueue(
        self,
        collection: str,
        *,
        id: str,  # noqa: A002 # the contract's word for it
        text: str,
        version: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        lane: Lane = "live",
    ) -> None:
        """Enqueue one item; see ``Producer.enqueue``."""
        item = {"id": id, "text": text, "version": version, "metadata": metadata}
        await self.enqueue_many(collection, [item], lane)

    async def enqueue_many(
        self,
        collection: str,
        items: AsyncIterable[Item | Mapping[str, Any]] | Iterable[Item | Mapping[str, Any]],
        lane: Lane = "live",
        *,
        on_invalid: OnInvalid | None = None,
    ) -> int:
        """Enqueue any number of items, of an asynchronous iterable too; see ``Producer.enqueue_many``."""
        run = self._broker.run
        with sending(collection, queue_name(collection, lane)) as sent:
            stream = await run(self._core.begin(collection, lane, on_invalid, sent))
            try:
                async for value in _each(items):
                    if stream.take(value):
                        await run(stream.publish())
                enqueued = await run(stream.finish())
            except Exception as error:
                await run(stream.fail(error))
                raise
            sent.sent(enqueued)
        return enqueued

    async def delete(
        self, collection: str, ids: AsyncIterable[str] | Iterable[str], version: int | None = None
    ) -> int:
        """Enqueue deletes; see ``Producer.delete``."""
        check_ids(ids)
        return await self.enqueue_many(collection, (delete(each, version) async for each in _each(ids)))

    async def embed_query(
        self,
        collection: str,
        text: str,
        timeout: float = 10.0,  # noqa: ASYNC109 # the worker has to know it
        *,
        fresh: bool = False,
    ) -> QueryVector:
        """The vector of a search text; see ``Producer.embed_query``. The time covers everything."""
        deadline = Deadline(timeout)
        return await self._broker.run(
            self._core.embed_query(collection, text, deadline, fresh=fresh), deadline
        )

    async def waiting(self, collection: str, lane: Lane = "live") -> tuple[int, int]:
        """Messages in the lane's queue, and in workers' hands; see ``Producer.waiting``."""
        return await self._broker.run(self._core.waiting(collection, lane))

    async def close(self) -> None:
        """Close the running loop's connections. A later call opens new ones."""
        await self._broker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _each(values: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    """The values of either kind of iterable. Of one that never waits others have their turns in between."""
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
        return
    for number, value in enumerate(values, 1):
        yield value
        if number % MAX_ITEMS == 0:
            await asyncio.sleep(0)
