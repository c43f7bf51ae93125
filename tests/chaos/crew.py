"""The workers of a run: real processes, each in a session of its own, replaced a moment after they died."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.sampler import Sampler
from tests.chaos.history import History
from tests.support.warm import WARMTH, WarmProcess
from tests.support.workers import READY

_LOOK_EVERY = 0.1
_MOMENT = 0.3
"""Seconds between a worker's death and its successor."""
_STOP_SECONDS = 30.0


@dataclass
class Member:
    """One worker process. ``key`` is its API key, by which the API knows it."""

    slot: int
    key: str
    process: WarmProcess
    log: Path
    stopped: bool = False
    killed: bool = False
    died_at: float | None = None
    _was_ready: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it consumes."""
        self._was_ready = self._was_ready or READY.encode() in self.log.read_bytes()
        return self._was_ready

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None


class Crew:
    """``count`` workers, for the length of a ``with`` block; with ``changes`` to each.

    ``metrics_ports``, if there are any: the port of each, also of its successors.
    """

    def __init__(
        self,
        count: int,
        environment: Mapping[str, str],
        *,
        folder: Path,
        history: History,
        changes: str = "",
        metrics_ports: Sequence[int] = (),
    ) -> None:
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._folder = folder
        self._history = history
        self._changes = changes
        self._metrics_ports = metrics_ports
        self._lock = threading.RLock()
        self._sampler = Sampler(_LOOK_EVERY, self._look)
        self._started = 0
        self._members: list[Member] = []
        self._count = count
        self.complaints: list[str] = []
        """What a worker did of its own that it should not have done."""

    def __enter__(self) -> Self:
        with self._lock:
            self._members = [self._start(slot) for slot in range(self._count)]
        self._sampler.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sampler.__exit__(kind, error, trace)
        for member in self._members:
            self.resume(member)
            if member.is_alive:
                member.process.send_signal(signal.SIGTERM)
        for member in self._members:
            self._await_end(member)

    def running(self) -> list[Member]:
        """Those that are alive, ready and not stopped."""
        with self._lock:
            return [m for m in self._members if m.is_alive and not m.stopped and m.is_ready]

    def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Wait until all of them consume."""
        deadline = time.monotonic() + timeout
        while len(self.running()) < self._count:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the workers were not ready within {timeout:g} s; their logs are in {self._folder}"
                )
            time.sleep(0.02)

    def kill(self, member: Member) -> float:
        """SIGKILL; returns the time of it."""
        with self._lock:
            member.killed = True
            at = time.monotonic()
            os.killpg(member.process.pid, signal.SIGKILL)
            member.process.wait()
        self._history.note("kill", at=at, worker=member.key)
        return at

    def stop(self, member: Member) -> float:
        """SIGSTOP; returns the time of it."""
        with self._lock:
            member.stopped = True
            at = time.monotonic()
            os.killpg(member.process.pid, signal.SIGSTOP)
        self._history.note("stop", at=at, worker=member.key)
        return at

    def resume(self, member: Member) -> float:
        """SIGCONT, unless it is gone or was not stopped; returns the time of it."""
        with self._lock:
            at = time.monotonic()
            if member.stopped and member.is_alive:
                os.killpg(member.process.pid, signal.SIGCONT)
                self._history.note("continue", at=at, worker=member.key)
            member.stopped = False
        return at

    def _start(self, slot: int) -> Member:
        self._started += 1
        key = f"worker-{slot}-{self._started}"
        log = self._folder / f"{key}.log"
        environment = {**self._environment, **self._own(slot), "EMBEDQ_API_KEY": key}
        with log.open("wb") as output, Path(os.devnull).open() as nothing:
            process = WARMTH.start(
                ["worker"],
                environment,
                stdin=nothing.fileno(),
                stdout=output.fileno(),
                changes=self._changes,
                is_leader=True,
            )
        self._history.note("start", worker=key, pid=process.pid)
        return Member(slot, key, process, log)

    def _own(self, slot: int) -> dict[str, str]:
        """What this worker alone is told."""
        return {"EMBEDQ_METRICS_PORT": str(self._metrics_ports[slot])} if self._metrics_ports else {}

    def _look(self) -> None:
        """Replace who has died."""
        with self._lock:
            for slot, member in enumerate(self._members):
                if not member.is_alive and self._is_mourned(member):
                    self._members[slot] = self._start(slot)

    def _is_mourned(self, member: Member) -> bool:
        if member.died_at is None:
            member.died_at = time.monotonic()
            if not member.killed:
                self._complain(f"{member.key} ended by itself with code {member.process.returncode}")
        return time.monotonic() - member.died_at > _MOMENT

    def _await_end(self, member: Member) -> None:
        try:
            code = member.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._complain(f"{member.key} did not stop within {_STOP_SECONDS:g} s of SIGTERM")
            os.killpg(member.process.pid, signal.SIGKILL)
            member.process.wait()
        else:
            # Signal 15: it had not begun to handle signals, so nothing was in its hands.
            if not member.killed and code not in (0, -signal.SIGTERM):
                self._complain(f"{member.key} ended with code {code} on SIGTERM")

    def _complain(self, what: str) -> None:
        self.complaints.append(what)
        self._history.note("complaint", complaint=what)
