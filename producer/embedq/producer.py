"""The producer: what other services call to have their texts embedded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from embedq.address import Address
from embedq.base import ProducerBase
from embedq.broker import Broker
from embedq.contract import Item, Lane, queue_name
from embedq.items import OnInvalid, check_ids, delete
from embedq.query import Deadline, QueryVector
from embedq.tracing import sending


class Producer(ProducerBase):
    """Enqueues items of registered collections. ``ProducerBase`` explains the settings.

    It connects when it is first used, and may be shared by threads: each call takes a connection of its
    own, and versions increase strictly over all threads. It blocks; in asyncio use ``AsyncProducer``. Celery
    is not needed for it, and the settings of a Celery application in the same process are not touched.
    """

    def _open(self, address: Address) -> None:
        self._broker = Broker(address)

    def enqueue(
        self,
        collection: str,
        *,
        id: str,  # noqa: A002 # the contract's word for it
        text: str,
        version: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        lane: Lane = "live",
    ) -> None:
        """Enqueue one item; when it returns, Redis has it.

        Raises ``InvalidItem``, ``UnknownCollection``, ``NoRegistry``, ``QueueFull`` and
        ``BrokerUnavailable``.
        """
        item = {"id": id, "text": text, "version": version, "metadata": metadata}
        self.enqueue_many(collection, [item], lane)

    def enqueue_many(
        self,
        collection: str,
        items: Iterable[Item | Mapping[str, Any]],
        lane: Lane = "live",
        *,
        on_invalid: OnInvalid | None = None,
    ) -> int:
        """Enqueue any number of items; the number enqueued.

        ``items`` is read once, one item at a time, and packed into messages of at most 256 items and 1 MiB;
        no more than about 5 MiB are held. An invalid item raises ``InvalidItem`` after every item before it
        was enqueued (``error.enqueued`` of them); nothing after it was read. With ``on_invalid`` it is
        given to that function, before the next item is read, and the rest goes on. An error of the iterable
        itself is raised after all that it had yielded was enqueued. For other errors ``enqueued`` says how
        many of the first items Redis is known to have.

        Raises as ``enqueue`` does.
        """
        run = self._broker.run
        with sending(collection, queue_name(collection, lane)) as sent:
            stream = run(self._core.begin(collection, lane, on_invalid, sent))
            try:
                for value in items:
                    if stream.take(value):
                        run(stream.publish())
                enqueued = run(stream.finish())
            except Exception as error:
                run(stream.fail(error))
                raise
            sent.sent(enqueued)
        return enqueued

    def delete(self, collection: str, ids: Iterable[str], version: int | None = None) -> int:
        """Enqueue deletes, on lane ``live``; their number. Ids that do not exist are no error.

        Raises as ``enqueue_many`` does.
        """
        check_ids(ids)
        return self.enqueue_many(collection, (delete(each, version) for each in ids))

    def embed_query(
        self, collection: str, text: str, timeout: float = 10.0, *, fresh: bool = False
    ) -> QueryVector:
        """The vector of a search text, from the collection's model, within ``timeout`` seconds; with its
        ``generation``.

        The time covers everything; only a Redis that takes no connection is noticed after 3 s. ``fresh`` asks
        a worker although the producer keeps a vector (``query_cache_size``), as after a search that was
        refused for its generation. Raises ``QueryFailed`` with the worker's reason, ``QueryTimeout``, and as
        ``enqueue`` does.
        """
        deadline = Deadline(timeout)
        return self._broker.run(self._core.embed_query(collection, text, deadline, fresh=fresh), deadline)

    def waiting(self, collection: str, lane: Lane = "live") -> tuple[int, int]:
        """Messages in the lane's queue, and those in workers' hands (of all collections), at one moment.

        Raises ``BrokerUnavailable``.
        """
        return self._broker.run(self._core.waiting(collection, lane))

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
