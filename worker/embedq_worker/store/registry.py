"""The registry of collections in Redis, where producers read it, and who looks on without a database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from embedq.contract import REGISTRY_KEY, Registered
from embedq.errors import ConfigurationError
from embedq_worker.store.collection import Collection

if TYPE_CHECKING:
    import redis

    from embedq.broker import Broker

_PUBLISHED = b""


def publish_registry(client: redis.Redis, collections: Iterable[Collection], key_prefix: str = "") -> None:
    """Replace the registry by these collections in one step: no producer ever sees half of it.

    The field ``""`` tells an empty registry from none. Raises the client's errors.
    """
    fields: dict[Any, bytes] = _fields(collections)
    with client.pipeline(transaction=True) as pipe:
        pipe.delete(key_prefix + REGISTRY_KEY)
        pipe.hset(key_prefix + REGISTRY_KEY, mapping=fields)
        pipe.execute()


def is_published(client: redis.Redis, collections: Iterable[Collection], key_prefix: str = "") -> bool:
    """Whether the registry says just this. Raises the client's errors."""
    said: object = client.hgetall(key_prefix + REGISTRY_KEY)
    return said == _fields(collections)


def read_registry(broker: Broker) -> dict[str, Registered]:
    """The published collections by name; none where none was ever published.

    Raises ``BrokerUnavailable``, and ``ConfigurationError`` where something else stands there.
    """
    fields = broker.hash(REGISTRY_KEY)
    try:
        return {
            name.decode(): msgspec.json.decode(said, type=Registered)
            for name, said in fields.items()
            if name != _PUBLISHED
        }
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigurationError(
            f"the collections under {broker.key(REGISTRY_KEY)} in Redis cannot be read; "
            "publish them anew: run `embedq collection list`"
        ) from None


def _fields(collections: Iterable[Collection]) -> dict[Any, bytes]:
    fields = {_PUBLISHED: b"1"}
    for each in collections:
        known = Registered(model=each.model, dimensions=each.dimensions, versions=each.versions)
        fields[each.name.encode()] = msgspec.json.encode(known)
    return fields
