"""Processes ``embedq`` that start at once: forked from a warm parent that has imported everything.

Starting Python and importing what a worker needs takes a second of CPU, and the suite starts hundreds of
processes. What is forked is a process like any other, with its own environment, session and output; only its
imports are not its own. The parent has no thread and no connection. Processes that are really started by
their command line are in ``tests/acceptance``, in ``test_supervisor.py`` and wherever there are
several ``--processes``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path(__file__).parents[2]
_IMPORTED_BY_A_WORKER = (
    *("celery.apps.worker", "celery.bin.celery", "celery.concurrency.base", "celery.worker.worker"),
    *("kombu.asynchronous.hub", "kombu.transport.redis", "aiohttp", "httpx_aiohttp", "rich.console"),
    *("embedq_worker.app", "embedq_worker.pool", "embedq_worker.intake.consumer"),
    *("embedq_worker.intake.transport", "embedq_worker.cli.status_page"),
)
_COLD = ("flower", "demo", "up", "local-api")
"""Commands that are not imported: they need much that no other does."""
_FILES = 4
"""Descriptors that come with an order: the three standard ones, and the one for news of the process."""


class WarmProcess:
    """A process ``embedq``, of which is asked what is asked of a ``subprocess.Popen``."""

    def __init__(self, news: socket.socket) -> None:
        self._news = news.makefile("r")
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self.pid = int(self._news.readline())

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        with self._lock:
            if self.returncode is None:
                if not select.select([self._news], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
                self.returncode = int(self._news.readline())
                self._news.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to it alone."""
        self.send_signal(signal.SIGKILL)


class Warmth:
    """The warm parent: started when it is first needed, ended with ``close``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: socket.socket | None = None
        self._parent: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: int,
        stdout: int,
        changes: str = "",
        is_leader: bool = False,
    ) -> WarmProcess:
        """``embedq`` with these arguments; errors go to ``stdout`` too.

        With ``changes`` to it (``tests.support.changed``). ``is_leader``: of a session of its own.
        """
        order = [list(arguments), dict(environment), changes, is_leader]
        payload = json.dumps(order).encode()
        ours, its = socket.socketpair()
        with self._lock, ours:
            orders = self._opened()
            socket.send_fds(orders, [len(payload).to_bytes(4)], [stdin, stdout, stdout, its.fileno()])
            orders.sendall(payload)
            its.close()
            return WarmProcess(ours)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, text: str = "", timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``embedq`` to its end with ``text`` as its input; ``stdout`` has its errors too."""
        reading, writing = os.pipe()
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            process = self.start(arguments, environment, stdin=reading, stdout=output.fileno())
            os.close(reading)
            with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8") as its_input:
                its_input.write(text)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            output.seek(0)
            said = output.read()
        return subprocess.CompletedProcess(list(arguments), code, said)

    def close(self) -> None:
        """End the parent, and whatever of its children runs."""
        with self._lock:
            if self._parent is not None and self._orders is not None:
                self._orders.close()
                self._parent.wait(20)
            self._orders = self._parent = None

    def _opened(self) -> socket.socket:
        if self._orders is None:
            self._orders, its = socket.socketpair()
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm", str(its.fileno())],
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
            its.close()
        return self._orders


WARMTH = Warmth()
atexit.register(WARMTH.close)


class _Order(NamedTuple):
    """What a child is to be."""

    arguments: list[str]
    environment: dict[str, str]
    changes: str
    is_leader: bool
    files: list[int]


class _Parent:
    """Forks a child for each order, and tells of its end."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._news: dict[int, int] = {}
        self._ended, self._end = os.pipe()
        os.set_blocking(self._ended, False)
        os.set_blocking(self._end, False)

    def run(self) -> _Order | None:
        """Until there are no more orders; in a child its order."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._end)
        while True:
            ready, _, _ = select.select([self._orders.fileno(), self._ended], [], [])
            if self._ended in ready:
                os.read(self._ended, 4096)
                self._reap(os.WNOHANG)
            if self._orders.fileno() in ready:
                order = self._receive()
                if order is None:
                    self._end_all()
                    return None
                if self._fork(order):
                    return order

    def _receive(self) -> _Order | None:
        head, files, _, _ = socket.recv_fds(self._orders, 4, _FILES)
        if not head:
            return None
        with self._orders.makefile("rb", buffering=0) as stream:
            left = int.from_bytes(head)
            payload = b""
            while len(payload) < left:
                payload += stream.read(left - len(payload)) or b""
        arguments, environment, changes, is_leader = json.loads(payload)
        return _Order(arguments, environment, changes, is_leader, files)

    def _fork(self, order: _Order) -> bool:
        """Whether this is the child."""
        pid = os.fork()
        if pid:
            *standard, self._news[pid] = order.files
            for file in standard:
                os.close(file)
            os.write(self._news[pid], b"%d\n" % pid)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._orders.close()
        for file in (self._ended, self._end, *self._news.values()):
            os.close(file)
        return True

    def _reap(self, options: int) -> None:
        while self._news:
            pid, status = os.waitpid(-1, options)
            if not pid:
                return
            news = self._news.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody asks any more
                os.write(news, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(news)

    def _end_all(self) -> None:
        for pid in self._news:
            os.kill(pid, signal.SIGKILL)
        self._reap(0)


def _become(order: _Order) -> None:
    """Be as if started by a command line."""
    if order.is_leader:
        os.setsid()
    for number, file in enumerate(order.files[:3]):
        os.dup2(file, number)
    for file in order.files:
        os.close(file)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    unbuffered = "PYTHONUNBUFFERED" in order.environment
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = (_output(number, unbuffered or number == 2) for number in (1, 2))


def _output(number: int, is_unbuffered: bool) -> TextIO:
    return io.TextIOWrapper(os.fdopen(number, "wb", closefd=False), "utf-8", write_through=is_unbuffered)


def _main(orders: str) -> None:
    for name in _IMPORTED_BY_A_WORKER:
        import_module(name)
    for command in entry_points(group="embedq.commands"):
        if command.name not in _COLD:
            command.load()
    from embedq.cli import main
    from embedq_worker.intake.desk import DESK, Desk
    from tests.support.changed import make_changes

    gc.freeze()
    order = _Parent(socket.socket(fileno=int(orders))).run()
    if order is not None:
        _become(order)
        DESK.process = Desk().process  # its own name, not the parent's
        make_changes(order.changes)
        main(order.arguments, prog_name="python -m embedq.cli")


if __name__ == "__main__":
    _main(*sys.argv[1:])
