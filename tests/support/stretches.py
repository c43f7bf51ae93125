"""Loads in short stretches, killed or interrupted in the middle, by a change of the running process.

See ``tests.support.changed``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from embedq.cli import loading
from embedq.cli.sources.checkpoint import Checkpoint
from embedq.cli.sources.source import Position

ITEMS = 500
"""Items of a stretch."""


def killed() -> None:
    """Die when the third stretch is in Redis, and no checkpoint says so yet."""
    _at_the_third(lambda: os.kill(os.getpid(), signal.SIGKILL))


def interrupted() -> None:
    """Get Ctrl-C at the same moment."""
    _at_the_third(lambda: os.kill(os.getpid(), signal.SIGINT))


def _at_the_third(happen: Callable[[], None]) -> None:
    loading.STRETCH_ITEMS = ITEMS
    write = Checkpoint.write
    written = []

    def happen_or_write(self: Checkpoint, position: Position, enqueued: int, bad: int) -> None:
        written.append(position)
        if len(written) == 3:
            happen()
        write(self, position, enqueued, bad)

    Checkpoint.write = happen_or_write  # type: ignore[method-assign]  # what this module is for
