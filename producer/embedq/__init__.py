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
    QueryError,
    QueryFailed,
    QueryTimeout,
    QueueFull,
    RegistryError,
    UnknownCollection,
)

if TYPE_CHECKING:
    from embedq.producer import Producer
    from embedq.query import QueryVector

__all__ = [
    "BrokerUnavailable",
    "ConfigurationError",
    "EmbedqError",
    "InvalidItem",
    "Item",
    "Lane",
    "NoRegistry",
    "Producer",
    "QueryError",
    "QueryFailed",
    "QueryTimeout",
    "QueryVector",
    "QueueFull",
    "RegistryError",
    "UnknownCollection",
]

_LATE = {"Producer": "producer", "QueryVector": "query"}
"""What commands that enqueue nothing have no use for is imported when it is asked for."""


def __getattr__(name: str) -> object:
    """``Producer`` and ``QueryVector``, from their modules."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = found
    return found
