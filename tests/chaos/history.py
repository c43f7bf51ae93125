"""What happened in a run, as JSON lines: each enqueue, each deed, each end of a worker, and the outcome."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self


class History:
    """The file ``history.jsonl`` of a run's folder. ``at`` in it is seconds since the beginning."""

    def __init__(self, folder: Path) -> None:
        self.began = time.monotonic()
        self.counts: Counter[str] = Counter()
        """How often each thing happened."""
        self._lock = threading.Lock()
        self._file = (folder / "history.jsonl").open("w")

    def note(self, what: str, at: float | None = None, **facts: object) -> None:
        """Something happened now, or at that time of the monotonic clock."""
        now = time.monotonic() if at is None else at
        line = json.dumps({"at": round(now - self.began, 4), "what": what, **facts})
        with self._lock:
            self.counts[what] += 1
            self._file.write(line + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
