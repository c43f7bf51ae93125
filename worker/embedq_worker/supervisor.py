"""The supervisor of ``embedq worker --processes N``: one process a core, a dead one is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from embedq_worker.logs import get_logger
from embedq_worker.logs.form import PROCESS_NUMBER

logger = get_logger(__name__)

_LOOK_EVERY = 0.5
_SHORT_LIFE = 10.0
"""Seconds: a process that lived for less is replaced after a growing pause."""
_LONGEST_PAUSE = 5.0
"""Seconds. Not longer: several processes die of a message that kills them, before it is a dead letter."""
_PASSED_ON = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGINT: signal.SIGINT,
    signal.SIGQUIT: signal.SIGQUIT,
    signal.SIGHUP: signal.SIGTERM,  # the terminal is gone; to Celery it would mean: start again
}
"""What ends us, and what the processes are told, which no terminal reaches: else they would work on alone."""
_IN_ORDER = (0, -signal.SIGTERM)
"""Exit codes: a process that SIGTERM kills had not begun to handle it, so nothing was in its hands."""


class Supervisor:
    """Runs ``command`` in ``processes`` processes until told to stop.

    Signals are passed on to all of them.
    """

    def __init__(self, command: Sequence[str], processes: int) -> None:
        self._command = list(command)
        self._children: list[_Child] = [_Child(number) for number in range(processes)]
        self._stopping = False
        self._signal: int = signal.SIGTERM

    def run(self) -> int:
        """Run; returns the exit code: 0 when every process stopped in order."""
        for number in _PASSED_ON:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self._pass_on)
        while not self._stopping:
            self._look()
            time.sleep(_LOOK_EVERY)
        for child in self._children:
            if not child.told:  # it was being started when the signal came
                child.signal(self._signal)
        codes = [child.process.wait() for child in self._children if child.process is not None]
        return 0 if all(code in _IN_ORDER for code in codes) else 1

    def _look(self) -> None:
        for child in self._children:
            if self._stopping:
                return
            child.keep_running(self._command)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._stopping = True
        self._signal = _PASSED_ON[signal.Signals(number)]
        for child in self._children:
            child.signal(self._signal)


class _Child:
    """One process, started again when it ends by itself."""

    def __init__(self, number: int) -> None:
        self._environment = {**os.environ, PROCESS_NUMBER: str(number)}
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 0.0
        self.told = False
        """Whether it has been sent a signal; a second one may mean more than the first."""

    def keep_running(self, command: Sequence[str]) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        now = time.monotonic()
        if self.process is not None:
            if now < self._started + self._pause:
                return
            logger.error(
                "process_died",
                "worker process {worker} ended with code {code}, starting another",
                worker=self.process.pid,
                code=self.process.returncode,
            )
            short = now - self._started < _SHORT_LIFE
            self._pause = min(_LONGEST_PAUSE, max(1.0, self._pause * 2)) if short else 0.0
        self._started = now
        try:
            # A process group of its own: a terminal's Ctrl-C reaches it once, through us.
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                command, start_new_session=True, env=self._environment
            )
        except OSError as error:  # no memory or no process left: the others must not lose their supervisor
            sentence = "a worker process cannot be started, trying again: {reason}"
            logger.error("process_not_started", sentence, reason=error.strerror)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.told = True


def command_of_one(arguments: Sequence[str]) -> list[str]:
    """The command line of one worker process."""
    return [sys.executable, "-m", "embedq.cli", "worker", *arguments]
