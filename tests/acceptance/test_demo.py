"""The demo, as a newcomer runs it: it answers, is quick, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedq_worker.embedded.process import private_folder
from tests.support.stack import wait_until

pytestmark = pytest.mark.timeout(120)

MARK = "DEMO_TEST_MARK"
EXPECTED = {
    "how do I read a zip file?": "zipfile.",
    "run a shell command and capture its output": "subprocess.getoutput",
    "find the files that match a pattern": "glob.",
    "cache the results of a function": "functools.",
    "what is the median of some numbers?": "statistics.median",
}
"""What must be among the nearest three."""


class Demo:
    """``embedq demo`` in a process of its own; its processes and temporary files are told from others."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._mark = secrets.token_hex(8)
        self.output = ""
        # As in the shell of somebody who works with another server and another queue.
        others = {"PGPORT": "1", "EMBEDQ_KEY_PREFIX": "other", "EMBEDQ_CONFIG": "/missing.toml"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedq.cli", "demo", *arguments],
            stdin=subprocess.PIPE,
            env={**os.environ, **others, MARK: self._mark, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )

    def read_until(self, text: str) -> None:
        """Read what it prints until ``text`` is there."""
        assert self.process.stdout is not None
        while text not in self.output:
            read = os.read(self.process.stdout.fileno(), 4096)
            assert read, f"ended without {text!r}:\n{self.output}"
            self.output += read.decode()

    def finish(self) -> int:
        """Read to the end; the exit code."""
        rest, _ = self.process.communicate(timeout=100)
        self.output += rest.decode()
        return self.process.returncode

    def left(self) -> list[object]:
        """Processes that still run after a moment, and files that are still there."""
        _, alive = psutil.wait_procs(
            [each for each in psutil.process_iter() if self._is_ours(each)], timeout=5
        )
        return [*alive, *self._folder.iterdir()]

    def child(self, word: str) -> psutil.Process:
        """The child with ``word`` on its command line."""
        children = psutil.Process(self.process.pid).children()
        return next(each for each in children if word in each.cmdline())

    def kill(self) -> None:
        """End everything that is ours."""
        for each in psutil.process_iter():
            if self._is_ours(each):
                each.kill()
        self.process.communicate()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            ours: bool = process.environ().get(MARK) == self._mark
        except (psutil.Error, OSError):
            return False
        return ours


@pytest.fixture
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    """A demo that was just started, in a temporary folder that the server's user may enter."""
    folder = private_folder("embedq-test-")
    folder.chmod(0o711)
    started = Demo(folder, *getattr(request, "param", ()))
    yield started
    started.kill()
    shutil.rmtree(folder)


def answers(output: str, question: str) -> list[str]:
    """The lines below a question."""
    _, _, below = output.partition(f"\n{question}")
    return below.splitlines()[1:4]


def test_the_demo(demo: Demo) -> None:
    """It ends well within a minute, with plausible answers, and says what comes next."""
    started = time.monotonic()
    assert demo.finish() == 0, demo.output
    assert time.monotonic() - started < 60
    for question, expected in EXPECTED.items():
        below = answers(demo.output, question)
        assert len(below) == 3, demo.output
        assert any(f"  {expected}" in line for line in below), demo.output
        distances = [float(line.split()[0]) for line in below]
        assert distances == sorted(distances)
        assert 0 < distances[0] < distances[-1] < 1
    assert "ORDER BY embedding <=> $1" in demo.output
    assert ", 0 dead letters" in demo.output
    *lines, last = demo.output.splitlines()
    assert last.startswith("Next: ")
    assert max(map(len, lines)) <= 80
    assert demo.left() == []


def succeeded(url: str) -> int:
    """Jobs and queries that Flower has seen done."""
    with urllib.request.urlopen(f"{url}/workers?json=1") as answer:  # noqa: S310  # http
        (worker,) = json.load(answer)["data"]
    return int(worker["task-succeeded"])


@pytest.mark.parametrize("demo", [["--flower"]], indirect=True)
def test_the_demo_in_flower(demo: Demo) -> None:
    """It shows the jobs, and goes on until Enter; then nothing is left."""
    demo.read_until("Press Enter to end it.")
    (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+", demo.output))
    with urllib.request.urlopen(f"{url}/broker") as answer:  # noqa: S310  # http
        assert b"wordllama-256" in answer.read()
    wait_until(lambda: succeeded(url) >= 25, 5)  # 20 messages, and the questions
    assert demo.process.stdin is not None
    demo.process.stdin.write(b"\n")
    demo.process.stdin.flush()
    assert demo.finish() == 0, demo.output
    assert demo.left() == []


@pytest.mark.parametrize(
    ("seen", "number", "code"),
    [
        ("Starting", signal.SIGINT, 130),
        ("Started a worker", signal.SIGINT, 130),
        ("texts,", signal.SIGINT, 130),
        ("Started a worker", signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_it_cleanly(demo: Demo, seen: str, number: signal.Signals, code: int) -> None:
    """Whenever it comes, to the whole group as from a terminal, all that was started ends and is removed."""
    demo.read_until(seen)
    os.killpg(demo.process.pid, number)
    assert demo.finish() == code, demo.output
    assert f"stopped by {number.name}" in demo.output
    assert "Traceback" not in demo.output
    assert demo.left() == []


def test_a_dead_worker_is_reported(demo: Demo) -> None:
    """The end of its log is shown, and everything else is stopped."""
    demo.read_until("texts,")
    demo.child("worker").kill()
    assert demo.finish() == 1, demo.output
    assert "the worker ended unexpectedly; the end of its log:" in demo.output
    assert "Traceback" not in demo.output
    assert demo.left() == []
