"""Enqueue texts to be embedded: what other services install.

>>> from embedq import Producer
>>> producer = Producer("redis://localhost:6379/0")
>>> producer.enqueue("docs", id="42", text="how leases lapse", metadata={"lang": "en"})
"""

from __future__ import annotations

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
