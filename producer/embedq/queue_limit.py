"""Back-pressure: how long a queue may grow, and what a producer does when it is full."""

from __future__ import annotations

import random
import time
from typing import Literal, get_args

from embedq.errors import ConfigurationError, QueueFull
from embedq.steps import Command, Pause, Steps

WhenFull = Literal["raise", "block"]
"""``raise`` raises ``QueueFull`` at once, ``block`` waits for room."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""Seconds between two looks at a full queue: workers drain many messages in one."""


class QueueLimit:
    """At most ``messages`` in a queue; None: any number. Redis holds it exactly, however many producers push.

    ``full_timeout``: seconds that a call waits for room at a stretch; None: as long as it takes.
    """

    def __init__(
        self, messages: int | None = None, when_full: WhenFull = "raise", full_timeout: float | None = None
    ) -> None:
        if messages is not None and messages < 1:
            raise ConfigurationError(f"max_queue_length is {messages}; give at least 1, or none")
        if when_full not in get_args(WhenFull):
            raise ConfigurationError(f"when_full is {when_full!r}; give 'raise' or 'block'")
        if full_timeout is not None and not full_timeout > 0:
            raise ConfigurationError(f"full_timeout is {full_timeout}; give seconds above 0, or none")
        self.messages = messages
        self._blocks = when_full == "block"
        self._timeout = full_timeout

    def room(self, queue: str, prefix: str, length: int) -> Steps[int]:
        """Wait until the queue, which held ``length``, takes messages; how many. Raises ``QueueFull``."""
        limit = self.messages or length
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while length >= limit:
            left = pause if deadline is None else deadline - time.monotonic()
            if not self._blocks or left <= 0:
                raise QueueFull(queue, length, limit)
            yield Pause(min(left, random.uniform(pause / 2, pause)))  # noqa: S311 # jitter, no secret
            length = yield Command(("LLEN", prefix + queue))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        return limit - length
