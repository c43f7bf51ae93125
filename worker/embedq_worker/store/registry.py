"""The registry of collections in Redis, where producers read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from embedq.contract import REGISTRY_KEY, Registered
from embedq_worker.store.collections import Collection

if TYPE_CHECKING:
    import redis

_PUBLISHED = ""


def publish_registry(client: redis.Redis, collections: Iterable[Collection], key_prefix: str = "") -> None:
    """Replace the registry by these collections in one step: no producer ever sees half of it.

    The field ``""`` tells an empty registry from none. Raises the client's errors.
    """
    fields: dict[Any, bytes | str] = {_PUBLISHED: "1"}
    for each in collections:
        known = Registered(model=each.model, dimensions=each.dimensions, versions=each.versions)
        fields[each.name] = msgspec.json.encode(known)
    with client.pipeline(transaction=True) as pipe:
        pipe.delete(key_prefix + REGISTRY_KEY)
        pipe.hset(key_prefix + REGISTRY_KEY, mapping=fields)
        pipe.execute()
