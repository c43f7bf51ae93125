"""The producer: what other services call to have their texts embedded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, get_args

from embedq.broker import Broker
from embedq.clock import BrokerClock
from embedq.contract import Item, Lane, Versions, is_collection_name, queue_name
from embedq.errors import BrokerUnavailable, ConfigurationError, InvalidItem, QueueFull
from embedq.items import encode_item, read_item, settle_version
from embedq.outbox import OutboxMethods
from embedq.outgoing import Outgoing
from embedq.packing import Packer
from embedq.query import QueryVector, ask
from embedq.registry import Registry
from embedq.tracing import Sending, sending

OnInvalid = Callable[[InvalidItem], None]


class Producer(OutboxMethods):
    """Enqueues items of registered collections.

    ``broker_url`` is by default that of ``EMBEDQ_BROKER_URL``, ``key_prefix`` that of ``EMBEDQ_KEY_PREFIX``
    (the workers' ``global_keyprefix``; default none). ``source`` names the service in every job. With
    ``check=False`` the registry of collections is not asked, so that items can be enqueued before any
    worker ran. With ``max_queue_length`` a queue that holds so many messages takes no more and
    ``QueueFull`` is raised.

    It connects when it is first used, and may be shared by threads: each call takes a connection of its
    own, and versions increase strictly over all threads. It blocks; call it from asyncio with
    ``asyncio.to_thread``. Celery is not needed for it, and the settings of a Celery application in the same
    process are not touched.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        source: str | None = None,
        check: bool = True,
        max_queue_length: int | None = None,
        key_prefix: str | None = None,
    ) -> None:
        url = broker_url or os.environ.get("EMBEDQ_BROKER_URL")
        if not url:
            raise ConfigurationError(
                "no broker URL: set EMBEDQ_BROKER_URL, or give one, such as redis://localhost:6379/0"
            )
        if source is not None and not 0 < len(source) <= 200:
            raise ConfigurationError(f"source has {len(source)} characters; give 1 to 200")
        if max_queue_length is not None and max_queue_length < 1:
            raise ConfigurationError(f"max_queue_length is {max_queue_length}; give at least 1, or none")
        prefix = os.environ.get("EMBEDQ_KEY_PREFIX", "") if key_prefix is None else key_prefix
        self._broker = Broker(url, prefix)
        self._registry = Registry(self._broker) if check else None
        self._clock = BrokerClock()
        self.source = source
        self._max_queue_length = max_queue_length

    def __repr__(self) -> str:
        return f"<Producer {self._broker!r} source={self.source!r}>"

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
        versions = self._open(collection, lane)
        with sending(collection, queue_name(collection, lane)) as sent:
            outgoing = self._outgoing(collection, lane, sent)
            enqueued = self._enqueue_all(items, versions, outgoing, on_invalid)
            sent.sent(enqueued)
        return enqueued

    def delete(self, collection: str, ids: Iterable[str], version: int | None = None) -> int:
        """Enqueue deletes, on lane ``live``; their number. Ids that do not exist are no error.

        Raises as ``enqueue_many`` does.
        """
        if isinstance(ids, str | bytes):
            raise InvalidItem(None, "ids_type", "delete takes several ids; give a list, such as ['42']")
        return self.enqueue_many(
            collection, ({"id": each, "version": version, "deleted": True} for each in ids)
        )

    def embed_query(self, collection: str, text: str, timeout: float = 10.0) -> QueryVector:
        """The vector of a search text, from the collection's model, within ``timeout`` seconds; with its
        ``generation``.

        Raises ``QueryFailed`` with the worker's reason, ``QueryTimeout``, and as ``enqueue`` does.
        """
        if not timeout > 0:
            raise ConfigurationError(f"timeout is {timeout}; give seconds above 0")
        self._versions(collection)
        self._measure_clock()
        with sending(collection, queue_name(collection, "query")) as sent:
            return ask(self._broker, self._clock, collection, text, timeout, sent.traceparent)

    def waiting(self, collection: str, lane: Lane = "live") -> tuple[int, int]:
        """Messages in the lane's queue, and those in workers' hands (of all collections), at one moment.

        Raises ``BrokerUnavailable``.
        """
        return self._broker.waiting(queue_name(collection, lane))

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enqueue_all(
        self,
        items: Iterable[Item | Mapping[str, Any]],
        versions: Versions | None,
        outgoing: Outgoing,
        on_invalid: OnInvalid | None,
    ) -> int:
        try:
            for value in items:
                try:
                    self._take(value, versions, outgoing)
                except InvalidItem as error:
                    if on_invalid is None:
                        raise
                    on_invalid(error)
        except InvalidItem as error:
            error.enqueued = outgoing.finish()
            raise
        except (BrokerUnavailable, QueueFull):
            raise
        except Exception:
            outgoing.finish()
            raise
        return outgoing.finish()

    def _open(self, collection: str, lane: Lane) -> Versions | None:
        if lane not in get_args(Lane) or lane == "query":
            raise ConfigurationError(f"lane is {lane!r}; items are enqueued to 'live' or 'bulk'")
        versions = self._versions(collection)
        self._measure_clock()
        return versions

    def _outgoing(self, collection: str, lane: Lane, sent: Sending) -> Outgoing:
        packer = Packer(collection, self.source)
        length = self._max_queue_length
        return Outgoing(self._broker, self._clock, packer, collection, lane, length, sent.traceparent)

    def _take(self, value: object, versions: Versions | None, outgoing: Outgoing) -> None:
        item = settle_version(read_item(value), versions, self._clock.next_version())
        outgoing.add(item.id, encode_item(item))

    def _versions(self, collection: str) -> Versions | None:
        """The collection's rule of versions; ``None`` where the registry is not asked."""
        if not isinstance(collection, str):
            raise ConfigurationError(f"the collection is a {type(collection).__name__}; give its name")
        if self._registry is not None:
            return self._registry.find(collection).versions
        if not is_collection_name(collection):
            raise ConfigurationError(
                f"{collection[:60]!r} cannot name a collection: give 1 to 48 of a-z, 0-9, _, a letter first"
            )
        return None

    def _measure_clock(self) -> None:
        if self._clock.stale:
            self._clock.measure(self._broker.time_us)
