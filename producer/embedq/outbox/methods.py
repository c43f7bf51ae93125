"""The same calls as methods of a producer, which adds its source."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, overload

from embedq.contract import Lane
from embedq.items import OnInvalid
from embedq.outbox.enqueueing import Asynchronous, Items, delete_in, enqueue_in, enqueue_many_in


class OutboxMethods:
    """What a producer does by the caller's database connection; Redis is not asked for it."""

    source: str | None
    """The service, as it calls itself."""

    @overload
    def enqueue_in(  # type: ignore[overload-overlap] # whatever is not awaited comes second
        self,
        connection: Asynchronous,
        collection: str,
        *,
        id: str,
        text: str,
        version: int | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        lane: Lane = ...,
    ) -> Awaitable[int]: ...
    @overload
    def enqueue_in(
        self,
        connection: object,
        collection: str,
        *,
        id: str,
        text: str,
        version: int | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        lane: Lane = ...,
    ) -> int: ...
    def enqueue_in(self, connection: object, collection: str, **item: Any) -> int | Awaitable[int]:
        """Enqueue one item in the connection's transaction, as ``embedq.enqueue_in``."""
        return enqueue_in(self._by(connection), collection, source=self.source, **item)

    @overload
    def enqueue_many_in(  # type: ignore[overload-overlap] # whatever is not awaited comes second
        self,
        connection: Asynchronous,
        collection: str,
        items: Items,
        lane: Lane = ...,
        *,
        on_invalid: OnInvalid | None = ...,
    ) -> Awaitable[int]: ...
    @overload
    def enqueue_many_in(
        self,
        connection: object,
        collection: str,
        items: Items,
        lane: Lane = ...,
        *,
        on_invalid: OnInvalid | None = ...,
    ) -> int: ...
    def enqueue_many_in(
        self,
        connection: object,
        collection: str,
        items: Items,
        lane: Lane = "live",
        *,
        on_invalid: OnInvalid | None = None,
    ) -> int | Awaitable[int]:
        """Enqueue any number of items in the connection's transaction, as ``embedq.enqueue_many_in``."""
        return enqueue_many_in(
            self._by(connection), collection, items, lane, source=self.source, on_invalid=on_invalid
        )

    @overload
    def delete_in(  # type: ignore[overload-overlap] # whatever is not awaited comes second
        self, connection: Asynchronous, collection: str, ids: Iterable[str], version: int | None = ...
    ) -> Awaitable[int]: ...
    @overload
    def delete_in(
        self, connection: object, collection: str, ids: Iterable[str], version: int | None = ...
    ) -> int: ...
    def delete_in(
        self, connection: object, collection: str, ids: Iterable[str], version: int | None = None
    ) -> int | Awaitable[int]:
        """Enqueue deletes in the connection's transaction, as ``embedq.delete_in``."""
        return delete_in(self._by(connection), collection, ids, version, source=self.source)

    def _by(self, connection: object) -> object:
        """The connection that it is done by: the caller's, unless it is only recorded."""
        return connection
