"""Items that kill the worker process that has them, by a change of the running process.

See ``tests.support.changed``.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from embedq_worker.engine.pipeline import Pipeline
from embedq_worker.engine.work import RunningItem

MARKER = "this text kills"
"""In the text of a killer."""


def when_taken_in() -> None:
    """Kill when the item reaches its collection's pipeline: nothing was called for it."""
    take = Pipeline.take

    def kill_or_take(self: Pipeline, item: RunningItem) -> None:
        if _kills(item):
            _die()
        take(self, item)

    Pipeline.take = kill_or_take  # type: ignore[method-assign]  # what this module is for


def when_embedded() -> None:
    """Kill when the item's vector has come, with those of its whole batch."""
    embedded = Pipeline.embedded

    def kill_or_go_on(self: Pipeline, item: RunningItem) -> None:
        if _kills(item):
            _die()
        embedded(self, item)

    Pipeline.embedded = kill_or_go_on  # type: ignore[method-assign]  # what this module is for


def _kills(item: RunningItem) -> bool:
    return item.text is not None and MARKER in item.text


def _die() -> NoReturn:
    """As by the kernel when memory is short: no handler, no farewell."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")
