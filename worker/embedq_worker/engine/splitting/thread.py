"""The thread in which long texts are split: one a process, which nobody waits for when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple


class _Task(NamedTuple):
    work: Callable[[], list[str]]
    future: Future[list[str]]


class SplittingThread:
    """Does one piece of work after the other. ``asyncio.to_thread`` would hold up the end of the process."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_started = False

    def submit(self, work: Callable[[], list[str]]) -> Future[list[str]]:
        """Have ``work`` done; one that is cancelled before its turn is not. From any thread."""
        with self._lock:
            if not self._is_started:
                threading.Thread(target=self._run, name="embedq-splitting", daemon=True).start()
                self._is_started = True
        task = _Task(work, Future())
        self._tasks.put(task)
        return task.future

    def _run(self) -> None:
        while True:
            work, future = self._tasks.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)


THREAD = SplittingThread()
"""The process's own."""
