"""Worker processes that are cheap to kill: forked from a warm parent, which replaces each one that ends.

The parent has imported everything, and has no thread and no connection when it forks, so that a worker is
up in a few hundredths of a second of CPU instead of a whole one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from embedq.cli import main
from embedq_worker.intake.desk import DESK, Desk
from tests.support.changed import make_changes

ROOT = Path(__file__).parents[2]
_LOOK_EVERY = 0.01
_IMPORTED_BY_A_WORKER = (
    *("celery.apps.worker", "celery.worker.worker", "celery.concurrency.base", "kombu.asynchronous.hub"),
    *("kombu.transport.redis", "embedq_worker.app", "embedq_worker.cli.worker", "embedq_worker.pool"),
    *("embedq_worker.intake.consumer", "embedq_worker.intake.transport", "aiohttp", "httpx_aiohttp"),
)


class ForkedWorkers:
    """``count`` processes ``embedq worker``, with ``changes`` to them (``tests.support.changed``).

    Their output goes to the file ``log``. At the end of the ``with`` block all are killed.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        count: int,
        *arguments: str,
        changes: Sequence[str] = (),
        log: Path,
    ) -> None:
        self.pids: list[int] = []
        """Of the living, the youngest last."""
        self.deaths: list[int] = []
        """Exit codes of those that ended, as ``subprocess`` gives them: of one that was killed, -9."""
        self._changed = threading.Condition()
        self._log = log
        self._environment = {
            **os.environ,
            **environment,
            "PYTHONUNBUFFERED": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        orders = [str(count), str(log), ",".join(changes), *arguments]
        self._command = [sys.executable, "-m", "tests.support.forked", *orders]
        self._parent: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._parent = subprocess.Popen(
            self._command,
            env=self._environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._parent is not None
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        try:
            self._parent.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._parent.pid, signal.SIGKILL)
            self._parent.wait(10)
        self._reader.join(5)

    @property
    def output(self) -> str:
        """All that they printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one of them; one that has just ended gets none."""
        with self._changed:
            if pid in self.pids:
                os.kill(pid, number)

    def wait_for_deaths(self, count: int, timeout: float) -> bool:
        """Whether ``count`` of them have ended within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.deaths) >= count, timeout)

    def _read(self) -> None:
        assert self._parent is not None
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            pid, code = json.loads(line)
            with self._changed:
                if code is None:
                    self.pids.append(pid)
                else:
                    self.pids.remove(pid)
                    self.deaths.append(code)
                self._changed.notify_all()
        self._parent.stdout.close()


class _Parent:
    """The warm parent: says ``[pid, null]`` of each start and ``[pid, exit code]`` of each end."""

    def __init__(self, log: str, arguments: Sequence[str]) -> None:
        self._output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._arguments = arguments
        self._children: set[int] = set()

    def run(self, count: int) -> None:
        """Keep ``count`` workers running until standard input ends."""
        while not select.select([0], [], [], _LOOK_EVERY)[0]:
            self._reap(os.WNOHANG)
            while len(self._children) < count:
                self._fork()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        self._reap(0)

    def _reap(self, options: int) -> None:
        while self._children:
            pid, status = os.waitpid(-1, options)
            if not pid:
                return
            self._children.remove(pid)
            self._say(pid, os.waitstatus_to_exitcode(status))

    def _fork(self) -> None:
        pid = os.fork()
        if not pid:
            self._be_a_worker()
        self._children.add(pid)
        self._say(pid, None)

    def _say(self, pid: int, code: int | None) -> None:
        print(json.dumps([pid, code]), flush=True)

    def _be_a_worker(self) -> NoReturn:
        code: object = 1
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(self._output, 1)
            os.dup2(self._output, 2)
            DESK.process = Desk().process  # its own name, not the parent's
            main(["worker", *self._arguments])
        except SystemExit as error:
            code = error.code
        finally:
            os._exit(code if isinstance(code, int) else int(code is not None))


def _run_parent(count: str, log: str, changes: str, *arguments: str) -> None:
    for name in _IMPORTED_BY_A_WORKER:
        import_module(name)
    make_changes(changes)
    _Parent(log, arguments).run(int(count))


if __name__ == "__main__":
    _run_parent(*sys.argv[1:])
