"""A collection's messages in Redis: queued in its lanes, or in the hands of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import msgspec

from embedq.contract import UNACKED_KEY, Lane, queue_name

if TYPE_CHECKING:
    import redis

LANES: tuple[Lane, ...] = get_args(Lane)


class Waiting(msgspec.Struct, frozen=True):
    """Messages of one collection that are not done: queued by lane, and in hand."""

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
    records = client.hscan_iter(key_prefix + UNACKED_KEY, count=100)
    in_hand = sum(record.endswith(endings) for _, record in records)
    return Waiting(dict(zip(LANES, lengths, strict=True)), in_hand)


def purge(client: redis.Redis, collection: str, key_prefix: str = "") -> int:
    """Delete the queues of a collection; returns how many messages they held.

    Messages in hand are left to their workers.
    """
    keys = [key_prefix + queue_name(collection, lane) for lane in LANES]
    with client.pipeline(transaction=True) as pipe:
        for key in keys:
            pipe.llen(key)
        pipe.delete(*keys)
        *lengths, _ = pipe.execute()
    return sum(lengths)
