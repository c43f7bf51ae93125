"""A collection's messages that are not done: queued in its lanes, in the hands of workers, or suspect.

Of suspects, messages whose worker died, ``intake/take_over.lua`` says more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from embedq.contract import Lane, queue_name
from embedq_worker.names import INDEX, SUSPECTS, UNACKED
from embedq_worker.store.fleet.queues import LANES

if TYPE_CHECKING:
    import redis


class Waiting(msgspec.Struct, frozen=True):
    """Messages of one collection that are not done: queued by lane, and in hand or suspect."""

    queued: dict[Lane, int]
    in_hand: int

    def __bool__(self) -> bool:
        return self.in_hand > 0 or any(self.queued.values())


def waiting(client: redis.Redis, collection: str, key_prefix: str = "") -> Waiting:
    """The messages of a collection that are not done. Reads every record of a message in hand."""
    queues = [queue_name(collection, lane) for lane in LANES]
    with client.pipeline(transaction=True) as pipe:
        for queue in queues:
            pipe.llen(key_prefix + queue)
        lengths = pipe.execute()
    # A record is ["message","exchange","queue"], of which only the end is wanted.
    endings = tuple(f'"{queue}"]'.encode() for queue in queues)
    records = client.hscan_iter(key_prefix + UNACKED, count=100)
    in_hand = sum(record.endswith(endings) for _, record in records)
    return Waiting(dict(zip(LANES, lengths, strict=True)), in_hand)


def lane_waiting(client: redis.Redis, collection: str, lane: Lane, key_prefix: str = "") -> tuple[int, int]:
    """The messages of one lane that are queued, and those in hand. Reads every record of one in hand."""
    queue = queue_name(collection, lane)
    queued = client.llen(key_prefix + queue)
    ending = f'"{queue}"]'.encode()
    records = client.hscan_iter(key_prefix + UNACKED, count=100)
    return queued, sum(record.endswith(ending) for _, record in records)


def purge(client: redis.Redis, collection: str, key_prefix: str = "") -> int:
    """Delete the queues of a collection and its suspects; returns how many messages these were.

    Messages in hand are left to their workers.
    """
    names = [queue_name(collection, lane) for lane in LANES]
    return _purge_queues(client, names, key_prefix) + _purge_suspects(client, names, key_prefix)


def purge_dropped(client: redis.Redis, collection: str, key_prefix: str = "") -> int:
    """Of a collection that was dropped also delete what is in the hands of workers, who cannot store it.

    They give it back, and find nothing there to be given back. Twice, as they may fetch or give back
    meanwhile. Returns how many messages these were.
    """
    names = [queue_name(collection, lane) for lane in LANES]
    return sum(
        purge(client, collection, key_prefix) + _purge_in_hand(client, names, key_prefix) for _ in range(2)
    )


def _purge_queues(client: redis.Redis, names: list[str], key_prefix: str) -> int:
    keys = [key_prefix + name for name in names]
    with client.pipeline(transaction=True) as pipe:
        for key in keys:
            pipe.llen(key)
        pipe.delete(*keys)
        *lengths, _ = pipe.execute()
    return sum(lengths)


def _purge_suspects(client: redis.Redis, names: list[str], key_prefix: str) -> int:
    purged = 0
    for entry in cast("list[bytes]", client.lrange(key_prefix + SUSPECTS, 0, -1)):
        number, _, queue = entry.decode().split(" ", 2)
        # Whoever takes a group off the list has it for itself.
        if queue in names and client.lrem(key_prefix + SUSPECTS, 1, entry.decode()):
            purged += _purge_group(client, f"suspects-{number}", key_prefix)
    return purged


def _purge_group(client: redis.Redis, group: str, key_prefix: str) -> int:
    tags = cast("list[bytes]", client.zrangebylex(key_prefix + INDEX, f"[{group}:", f"({group};"))
    return _delete_records(client, tags, key_prefix)


def _purge_in_hand(client: redis.Redis, names: list[str], key_prefix: str) -> int:
    """Those that became killers among them."""
    tags = (tag for tag, _ in client.zscan_iter(key_prefix + INDEX, count=1000))
    return _delete_records(client, [tag for tag in tags if _queue_of(tag) in names], key_prefix)


def _queue_of(tag: bytes) -> str:
    """A tag is ``<holder>:<queue>:<number>``."""
    return tag.decode().partition(":")[2].rpartition(":")[0]


def _delete_records(client: redis.Redis, tags: list[bytes], key_prefix: str) -> int:
    """Returns how many there were: a worker may have settled some meanwhile."""
    if not tags:
        return 0
    with client.pipeline(transaction=True) as pipe:
        pipe.hdel(key_prefix + UNACKED, *tags)
        pipe.zrem(key_prefix + INDEX, *tags)
        deleted, _ = pipe.execute()
    return int(deleted)
