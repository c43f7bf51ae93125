"""The workers of a run: cheap to kill, since there are to be many kills; each has its relay."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.chaos.history import History
from tests.chaos.options import Options
from tests.support.forked import ForkedWorkers
from tests.support.workers import READY


class Hand(NamedTuple):
    """One worker process."""

    pid: int

    @property
    def key(self) -> str:
        """Its name."""
        return f"worker-{self.pid}"


class ForkedCrew:
    """The workers of a run, for the length of a ``with`` block; the log is in its folder."""

    def __init__(
        self, environment: Mapping[str, str], *, folder: Path, history: History, options: Options
    ) -> None:
        self._count = options.workers
        self._history = history
        sabotage = options.sabotage
        changes = () if sabotage is None else (f"tests.chaos.outbox.saboteur:{sabotage}",)
        told = {**environment, "EMBEDQ_API_KEY": "chaos"}
        self._workers = ForkedWorkers(told, self._count, changes=changes, log=folder / "workers.log")

    def __enter__(self) -> Self:
        self._workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, trace)

    def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Wait until all of them consume."""
        deadline = time.monotonic() + timeout
        while self._workers.output.count(READY) < self._count:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the workers were not ready within {timeout:g} s:\n{self._workers.output}"
                )
            time.sleep(0.05)

    def running(self) -> list[Hand]:
        """Those that are alive."""
        return [Hand(pid) for pid in list(self._workers.pids)]

    def kill(self, hand: Hand) -> float:
        """SIGKILL; returns the time of it. Another takes its place at once."""
        return self._signal(hand, signal.SIGKILL, "kill")

    def stop(self, hand: Hand) -> float:
        """SIGSTOP; returns the time of it."""
        return self._signal(hand, signal.SIGSTOP, "stop")

    def resume(self, hand: Hand) -> float:
        """SIGCONT, unless it is gone; returns the time of it."""
        return self._signal(hand, signal.SIGCONT, "continue")

    def _signal(self, hand: Hand, number: signal.Signals, what: str) -> float:
        at = time.monotonic()
        self._workers.signal(hand.pid, number)
        self._history.note(what, at=at, worker=hand.key)
        return at
