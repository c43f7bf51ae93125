"""Enqueue texts to be embedded: what other services install.

>>> from embedq import Producer
>>> producer = Producer("redis://localhost:6379/0")
>>> producer.enqueue("docs", id="42", text="how leases lapse", metadata={"lang": "en"})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from embedq.contract import Item, Lane
from embedq.errors import (
    BrokerUnavailable,
    ConfigurationError,
    EmbedqError,
    InvalidItem,
    NoRegistry,
    OutboxUnavailable,
    QueryError,
    QueryFailed,
    QueryTimeout,
    QueueFull,
    RegistryError,
    UnknownCollection,
)

if TYPE_CHECKING:
    from embedq.async_producer import AsyncProducer
    from embedq.outbox import delete_in, enqueue_in, enqueue_many_in
    from embedq.producer import Producer
    from embedq.query import QueryVector

__all__ = [
    "AsyncProducer",
    "BrokerUnavailable",
    "ConfigurationError",
    "EmbedqError",
    "InvalidItem",
    "Item",
    "Lane",
    "NoRegistry",
    "OutboxUnavailable",
    "Producer",
    "QueryError",
    "QueryFailed",
    "QueryTimeout",
    "QueryVector",
    "QueueFull",
    "RegistryError",
    "UnknownCollection",
    "delete_in",
    "enqueue_in",
    "enqueue_many_in",
]

_LATE = {
    "AsyncProducer": "async_producer",
    "Producer": "producer",
    "QueryVector": "query",
    "delete_in": "outbox",
    "enqueue_in": "outbox",
    "enqueue_many_in": "outbox",
}
"""What commands that enqueue nothing have no use for is imported when it is asked for."""


def __getattr__(name: str) -> object:
    """The producers, ``QueryVector`` and the calls of the outbox, from their modules."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = found
    return found
