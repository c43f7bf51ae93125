"""What a producer has put on its queues, as it lies there."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import redis

from embedq import Item
from embedq.contract import REGISTRY_KEY, Job, Registered

Message = dict[str, Any]


def register(client: redis.Redis, prefix: str = "", **collections: str) -> None:
    """Publish a registry as workers do: name=versions."""
    fields: dict[Any, Any] = {"": b"1"}
    for name, versions in collections.items():
        fields[name] = msgspec.json.encode(Registered("m", 3, versions))  # type: ignore[arg-type] # a literal
    client.hset(prefix + REGISTRY_KEY, mapping=fields)


def messages(client: redis.Redis, queue: str) -> list[Message]:
    """The messages of a queue, oldest first."""
    return [json.loads(message) for message in reversed(client.lrange(queue, 0, -1))]


def body(message: Message) -> Any:
    """A message's decoded body."""
    return json.loads(base64.b64decode(message["body"]))


def jobs(client: redis.Redis, queue: str) -> list[Job]:
    """The jobs of a queue, oldest first."""
    return [msgspec.convert(body(message)[1]["job"], Job) for message in messages(client, queue)]


def items(client: redis.Redis, queue: str) -> list[Item]:
    """The items of a queue, oldest first."""
    return [item for job in jobs(client, queue) for item in job.items]
