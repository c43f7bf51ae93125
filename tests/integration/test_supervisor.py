"""The supervisor starts its processes, passes signals on to every one, and waits for them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.stack import wait_until

SUPERVISE = """
import signal, sys, time
from embedq_worker import supervisor

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run without a terminal

class SlowStart(supervisor.subprocess.Popen):  # as on a busy machine: the signal comes during a start
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        time.sleep(float(sys.argv[1]))

supervisor.subprocess.Popen = SlowStart
sys.exit(supervisor.Supervisor([sys.executable, "-c", sys.argv[3], sys.argv[4]], int(sys.argv[2])).run())
"""

WORK = """
import os, pathlib, signal, sys
log = pathlib.Path(sys.argv[1], str(os.getpid()))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
log.touch()
for _ in range(%d):
    number = signal.sigwait({signal.SIGTERM, signal.SIGINT})
    with log.open("a") as file:
        file.write(signal.Signals(number).name + " ")
"""


class Supervised:
    """A supervisor in a process of its own, over processes that note their signals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes]

    def start(self, processes: int, *, start_time: float = 0.0, signals: int = 1) -> None:
        """Start; each of its processes ends with the so manieth signal."""
        arguments = [str(start_time), str(processes), WORK % signals, str(self.folder)]
        self.process = subprocess.Popen([sys.executable, "-c", SUPERVISE, *arguments])

    def received(self) -> list[str]:
        """What each process was sent."""
        return [log.read_text().strip() for log in self.folder.iterdir()]

    def wait_for(self, processes: int) -> None:
        """Return once so many have run."""
        wait_until(lambda: len(self.received()) >= processes, 20)

    def kill(self) -> None:
        """Leave nothing running."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self.process.kill()
        self.process.wait()
        for child in children:
            child.kill()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    """A supervisor, not started yet."""
    supervised = Supervised(tmp_path)
    yield supervised
    supervised.kill()


def test_a_signal_reaches_every_process_once(supervised: Supervised) -> None:
    """And the exit code says that all ended in order."""
    supervised.start(3)
    supervised.wait_for(3)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(15) == 0
    assert supervised.received() == ["SIGTERM"] * 3


def test_a_terminal_that_is_closed_ends_all(supervised: Supervised) -> None:
    """Its processes are in sessions of their own, where they would work on without anybody."""
    supervised.start(2)
    supervised.wait_for(2)
    supervised.process.send_signal(signal.SIGHUP)
    assert supervised.process.wait(15) == 0
    assert supervised.received() == ["SIGTERM"] * 2


def test_a_signal_while_it_starts_processes_ends_it(supervised: Supervised) -> None:
    """It starts no more of them, and the one that was being started is stopped like the others."""
    supervised.start(16, start_time=0.7)
    supervised.wait_for(2)  # of the second one the supervisor does not know yet
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(15) == 0
    assert supervised.received() == ["SIGTERM"] * 2


def test_a_second_signal_is_passed_on_too(supervised: Supervised) -> None:
    """Workers know what a second Ctrl-C means."""
    supervised.start(2, signals=2)
    supervised.wait_for(2)
    supervised.process.send_signal(signal.SIGTERM)
    wait_until(lambda: supervised.received() == ["SIGTERM"] * 2, 15)
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.process.wait(15) == 0
    assert supervised.received() == ["SIGTERM SIGINT"] * 2


def test_a_dead_process_is_replaced(supervised: Supervised) -> None:
    """By another one."""
    supervised.start(2)
    supervised.wait_for(2)
    psutil.Process(int(next(supervised.folder.iterdir()).name)).kill()
    supervised.wait_for(3)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(15) == 0
