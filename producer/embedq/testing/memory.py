"""Redis as far as a producer needs it, in memory: what is published is kept, decoded."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from embedq.address import Address
from embedq.async_broker import AsyncBroker
from embedq.broker import Broker
from embedq.contract import Item, Job, Lane, Query, QueryReply, Registered, queue_parts, reply_key
from embedq.errors import BrokerUnavailable
from embedq.query import Deadline
from embedq.steps import Command, Evaluate, Pause, Step, Transaction

Answer = Callable[[Query], Iterable[float]]
"""Gives the vector of a query."""


class Recorded(NamedTuple):
    """An item as it was enqueued, with its version."""

    collection: str
    lane: Lane
    item: Item
    source: str | None
    connection: object = None
    """Whose transaction it was enqueued in; None where it went to Redis."""


class Memory:
    """What was published, and the answers to a producer's commands. ``collections`` is the registry.

    While ``is_away`` every command raises ``BrokerUnavailable``, and nothing is recorded.
    """

    def __init__(self, collections: Mapping[str, Registered], answer: Answer) -> None:
        self.recorded: list[Recorded] = []
        self.queries: list[Query] = []
        self.messages: Counter[str] = Counter()
        """How many there are of each queue."""
        self.is_away = False
        self.collections = collections
        self._answer = answer
        self._replies: dict[str, bytes] = {}

    def take(self, step: Step) -> object:
        """What Redis would answer."""
        if self.is_away:
            raise BrokerUnavailable("Redis is away: the test said so, by is_away")
        match step:
            case Transaction(commands):
                return [self._command(*command.words) for command in commands]
            case Evaluate(keys=keys, arguments=arguments):
                return self._publish(keys[0], arguments)
            case Command(words):
                return self._command(*words)
        raise NotImplementedError(f"{step!r} is no step of Redis")

    def _command(self, name: Any, *words: Any) -> object:
        match name:
            case "HGETALL":
                registry = {key.encode(): msgspec.json.encode(each) for key, each in self.collections.items()}
                return {b"": b"1", **registry}
            case "TIME":
                return divmod(time.time_ns() // 1_000, 1_000_000)
            case "LLEN":
                return self.messages[words[0]]
            case "HLEN":
                return 0
            case "BLPOP":
                return words[0], self._replies.pop(words[0])
        raise NotImplementedError(f"a producer that records does not know the command {name}")

    def _publish(self, queue: str, arguments: Sequence[str | bytes]) -> tuple[int, int]:
        limit, messages = int(arguments[0]), arguments[1:]
        room = max(0, limit - self.messages[queue]) if limit else len(messages)
        for message in messages[:room]:
            self._record(queue, message)
        return min(room, len(messages)), self.messages[queue]

    def _record(self, queue: str, message: str | bytes) -> None:
        envelope = msgspec.json.decode(message)
        _, arguments, _ = msgspec.json.decode(base64.b64decode(envelope["body"]))
        collection, lane = queue_parts(queue)
        if lane == "query":
            self._reply(envelope["headers"]["id"], msgspec.convert(arguments, Query))
            return
        self.messages[queue] += 1
        job = msgspec.convert(arguments["job"], Job)
        self.recorded += [Recorded(collection, lane, item, job.source) for item in job.items]

    def _reply(self, task_id: str, query: Query) -> None:
        self.queries.append(query)
        reply = QueryReply(1, vector=[float(number) for number in self._answer(query)], generation=1)
        self._replies[reply_key(task_id)] = msgspec.json.encode(reply)


class MemoryBroker(Broker):
    """A broker that asks a ``Memory`` in place of Redis."""

    def __init__(self, memory: Memory) -> None:
        super().__init__("redis://memory")
        self._memory = memory

    def _take(self, step: Step, deadline: Deadline | None) -> object:
        return super()._take(step, deadline) if isinstance(step, Pause) else self._memory.take(step)


class AsyncMemoryBroker(AsyncBroker):
    """The same for asyncio."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(Address("redis://memory"))
        self._memory = memory

    async def _take(self, step: Step, deadline: Deadline | None) -> object:
        return await super()._take(step, deadline) if isinstance(step, Pause) else self._memory.take(step)
