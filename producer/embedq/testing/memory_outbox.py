"""The outbox in memory: what it is given is recorded at once, whatever becomes of the transaction."""

from __future__ import annotations

import msgspec

from embedq.clock import BrokerClock
from embedq.contract import Item
from embedq.core import check_lane
from embedq.errors import UnknownCollection
from embedq.items import settle_version
from embedq.outbox.connections import is_asynchronous
from embedq.outbox.refusals import Parameters
from embedq.testing.memory import Memory, Recorded


class MemoryOutbox:
    """What ``embedq.enqueue_many`` does in a database, with the versions of a producer's clock."""

    def __init__(self, memory: Memory, clock: BrokerClock) -> None:
        self._memory = memory
        self._clock = clock

    def connection(self, callers: object) -> object:
        """Stands for the caller's connection, which is not used; it is awaited if that would be."""
        kind = AsyncMemoryConnection if is_asynchronous(callers) else MemoryConnection
        return kind(self, callers)

    def record(self, rows: Parameters, connection: object) -> None:
        """Record all items, or none. Raises what the database would be understood to refuse."""
        collection, lane, source = rows["collection"], rows["lane"], rows["source"]
        registered = self._memory.collections.get(collection)
        if registered is None:
            raise UnknownCollection(collection, self._memory.collections)
        check_lane(lane)
        new = self._clock.next_version
        items = [settle_version(item, registered.versions, new()) for item in _items(rows)]
        self._memory.recorded += [Recorded(collection, lane, item, source, connection) for item in items]


class MemoryConnection:
    """Records in place of the caller's connection."""

    def __init__(self, outbox: MemoryOutbox, callers: object) -> None:
        self._outbox = outbox
        self._callers = callers

    def execute(self, _statement: object, rows: Parameters) -> None:
        """Record what the statement would enqueue."""
        self._outbox.record(rows, self._callers)


class AsyncMemoryConnection:
    """Likewise in place of one whose statements are awaited."""

    def __init__(self, outbox: MemoryOutbox, callers: object) -> None:
        self._outbox = outbox
        self._callers = callers

    async def execute(self, _statement: object, rows: Parameters) -> None:
        """Record what the statement would enqueue."""
        self._outbox.record(rows, self._callers)


def _items(rows: Parameters) -> list[Item]:
    metadata = [None if each is None else msgspec.json.decode(each) for each in rows["metadata"]]
    return list(map(Item, rows["ids"], rows["texts"], rows["versions"], metadata, rows["deleted"]))
