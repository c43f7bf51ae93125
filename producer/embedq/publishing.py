"""Publishing a group of messages: one script of Redis, which pushes a group once, however often it is run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from embedq.contract import WAKE_KEY, sent_key
from embedq.messages import Message
from embedq.script import Script
from embedq.steps import Evaluate, Steps

PUBLISH = Script((files("embedq") / "publish.lua").read_text("utf-8"))


class Published(NamedTuple):
    """What came of a group."""

    messages: int
    """How many of its first messages are in the queue; the rest found no room."""
    length: int
    """Messages in the queue."""


def publish(
    messages: Sequence[Message], prefix: str, limit: int | None = None, *, wake: bool = False
) -> Steps[Published]:
    """Push messages of one queue in one step, as many as it has room for below ``limit`` messages.

    After a lost connection they are sent again, and pushed once all the same. ``wake`` also wakes a worker
    that waits for work.
    """
    first = messages[0]
    keys = [prefix + first.queue, prefix + sent_key(first.task_id)]
    if wake:
        keys.append(prefix + WAKE_KEY)
    payloads = (message.payload for message in messages)
    pushed, length = yield Evaluate(PUBLISH, keys, [b"%d" % (limit or 0), *payloads])
    return Published(pushed, length)
