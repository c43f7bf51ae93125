"""A worker that embeds nothing: it notes the ids of a job and is done with it, by a change of the process.

What is left is the transport, with its real hub, consumer, pool and acknowledgements. See
``tests.support.changed``.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from embedq_worker.engine import taking
from embedq_worker.engine.delivery import Delivery
from embedq_worker.errors import NotAJob

FILE_VARIABLE = "NOTES_FILE"
"""Environment variable: the file that ids are appended to, each in a line with the process that had it.

What was appended is there whatever becomes of the process: the kernel has it.
"""


def note_only() -> None:
    """Note instead of embedding."""
    notes = os.open(os.environ[FILE_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def take(_: taking.Taking, delivery: Delivery) -> None:
        if delivery.not_a_job is not None:
            raise NotAJob(delivery.not_a_job)
        assert isinstance(delivery.payload, dict)
        ids = [item["id"] for item in delivery.payload["job"]["items"]]
        os.write(notes, "".join(f"{os.getpid()} {each}\n" for each in ids).encode())
        delivery.finish({"items": len(ids), "stored": len(ids)})

    taking.Taking._take = take  # type: ignore[method-assign,assignment]  # what this module is for


class Notes:
    """Reads the file while it grows."""

    def __init__(self, file: Path) -> None:
        self.counts: Counter[str] = Counter()
        """How often each id was handled."""
        self.writers: set[int] = set()
        """Processes that have handled anything."""
        file.touch()
        self._file = file.open()
        self._rest = ""

    def read(self) -> None:
        """Take in what was appended since the last time."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            writer, _, item_id = line.partition(" ")
            self.writers.add(int(writer))
            self.counts[item_id] += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()
