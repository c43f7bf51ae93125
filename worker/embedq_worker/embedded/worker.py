"""A worker in a process of its own, beside the embedded servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embedq_worker.embedded.command import CommandProcess

_READY = " ready."
"""What Celery logs when it consumes."""


class WorkerServer(CommandProcess):
    """``embedq worker``, one process: a context manager. ``wait`` until it is ready."""

    def __init__(self, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        super().__init__("the worker", environment, ["worker", *arguments])

    def wait(self) -> None:
        """Wait until it takes messages. Raises ``EmbeddedError`` with the end of its log if it ends."""
        self.wait_until(lambda: _READY in self.log())
