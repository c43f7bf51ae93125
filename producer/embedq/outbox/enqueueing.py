"""The calls: items are checked, and become rows of the outbox in the caller's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, cast, overload

from embedq.contract import Item, Lane, is_collection_name
from embedq.errors import ConfigurationError, InvalidItem
from embedq.items import OnInvalid, check_ids, delete
from embedq.outbox.connections import Run, is_asynchronous, runner
from embedq.outbox.rows import Rows, rows_of

Items = Iterable[Item | Mapping[str, Any]]


class Asynchronous(Protocol):
    """A connection or session whose statements are awaited."""

    def execute(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run a statement."""
        ...


@overload
def enqueue_in(  # type: ignore[overload-overlap] # whatever is not awaited comes second
    connection: Asynchronous,
    collection: str,
    *,
    id: str,
    text: str,
    version: int | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    lane: Lane = ...,
    source: str | None = ...,
) -> Awaitable[int]: ...
@overload
def enqueue_in(
    connection: object,
    collection: str,
    *,
    id: str,
    text: str,
    version: int | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    lane: Lane = ...,
    source: str | None = ...,
) -> int: ...
def enqueue_in(
    connection: object,
    collection: str,
    *,
    id: str,  # noqa: A002 # the contract's word for it
    text: str,
    version: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    lane: Lane = "live",
    source: str | None = None,
) -> int | Awaitable[int]:
    """Enqueue one item in the connection's transaction: it will be embedded if that commits. Returns 1.

    ``connection`` is one of psycopg 3, a connection or session of SQLAlchemy, or one of Django; of an
    asynchronous one the call is awaited. A connection that commits each statement by itself commits this one,
    too. ``source`` names the service. Raises as ``enqueue_many_in`` does.
    """
    item = {"id": id, "text": text, "version": version, "metadata": metadata}
    return enqueue_many_in(connection, collection, [item], lane, source=source)


@overload
def enqueue_many_in(  # type: ignore[overload-overlap] # whatever is not awaited comes second
    connection: Asynchronous,
    collection: str,
    items: Items,
    lane: Lane = ...,
    *,
    source: str | None = ...,
    on_invalid: OnInvalid | None = ...,
) -> Awaitable[int]: ...
@overload
def enqueue_many_in(
    connection: object,
    collection: str,
    items: Items,
    lane: Lane = ...,
    *,
    source: str | None = ...,
    on_invalid: OnInvalid | None = ...,
) -> int: ...
def enqueue_many_in(
    connection: object,
    collection: str,
    items: Items,
    lane: Lane = "live",
    *,
    source: str | None = None,
    on_invalid: OnInvalid | None = None,
) -> int | Awaitable[int]:
    """Enqueue any number of items in the connection's transaction; the number enqueued.

    ``items`` is read once, one item at a time; a statement takes up to 1,000 of them or about 4 MiB. An
    invalid item raises ``InvalidItem`` after every item before it was enqueued (``error.enqueued`` of them,
    if the transaction commits); with ``on_invalid`` it is given to that function and the rest goes on.

    What the database refuses leaves the transaction failed, as any error of SQL does; roll back, to a
    savepoint if there is one. It raises ``UnknownCollection``, ``InvalidItem`` for a version that is missing
    or must not be given, ``OutboxUnavailable`` where the role may not enqueue or there is no outbox, and
    ``ConfigurationError`` for an unknown lane or source, as for an object that is no connection. Other errors
    of the connection are raised as they are.
    """
    if not is_collection_name(str(collection)):
        raise ConfigurationError(f"{str(collection)[:60]!r} cannot name a collection; give its name")
    run = runner(connection)
    batches = rows_of(items, partial(Rows, collection, lane, source), on_invalid)
    return _send_awaited(run, batches) if is_asynchronous(connection) else _send(run, batches)


@overload
def delete_in(  # type: ignore[overload-overlap] # whatever is not awaited comes second
    connection: Asynchronous,
    collection: str,
    ids: Iterable[str],
    version: int | None = ...,
    *,
    source: str | None = ...,
) -> Awaitable[int]: ...
@overload
def delete_in(
    connection: object,
    collection: str,
    ids: Iterable[str],
    version: int | None = ...,
    *,
    source: str | None = ...,
) -> int: ...
def delete_in(
    connection: object,
    collection: str,
    ids: Iterable[str],
    version: int | None = None,
    *,
    source: str | None = None,
) -> int | Awaitable[int]:
    """Enqueue deletes in the connection's transaction, on lane ``live``; their number.

    Ids that do not exist are no error. Raises as ``enqueue_many_in`` does.
    """
    check_ids(ids)
    return enqueue_many_in(connection, collection, (delete(each, version) for each in ids), source=source)


def _send(run: Run, batches: Iterator[Rows]) -> int:
    sent = 0
    try:
        for rows in batches:
            run(rows.parameters())
            sent += len(rows)
    except InvalidItem as error:
        error.enqueued = sent
        raise
    return sent


async def _send_awaited(run: Run, batches: Iterator[Rows]) -> int:
    sent = 0
    try:
        for rows in batches:
            await cast("Awaitable[object]", run(rows.parameters()))
            sent += len(rows)
    except InvalidItem as error:
        error.enqueued = sent
        raise
    return sent
