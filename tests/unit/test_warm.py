"""Processes that are forked from a warm parent: like those that a command line starts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.warm import WARMTH, WarmProcess


def change_its_mind() -> None:
    """A change that shows what the process is."""
    print(os.environ, os.getsid(0) == os.getpid(), os.getpid(), flush=True)


@pytest.fixture
def output() -> Iterator[int]:
    """A descriptor to write to and to read from."""
    file = os.memfd_create("output") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
    yield file
    os.close(file)


def start(output: int, *arguments: str, **environment: str) -> WarmProcess:
    """One that leads its session, changed and reading from nothing that ends."""
    reading, writing = os.pipe()
    process = WARMTH.start(
        arguments,
        environment,
        stdin=reading,
        stdout=output,
        changes="tests.unit.test_warm:change_its_mind",
        is_leader=True,
    )
    os.close(reading)
    os.close(writing)
    return process


def test_it_is_a_process_of_its_own(output: int) -> None:
    """With the environment it is given and no more, in its own session; its exit code is told."""
    process = start(output, "--version", A="1")
    assert process.wait(20) == 0
    said = os.pread(output, 4096, 0).decode()
    assert said.startswith(f"environ({{'A': '1'}}) True {process.pid}\nembedq ")
    assert process.poll() == 0
    process.send_signal(signal.SIGKILL)  # nobody is there any more


def test_its_end_is_waited_for(output: int) -> None:
    """It runs until a signal ends it, and the code says which."""
    process = start(output, "local-api", "--port", "0", PATH=os.environ["PATH"])
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(20) == -signal.SIGKILL


def test_a_command_is_run_to_its_end() -> None:
    """Errors are in its output, and code 2 is that of a wrong command line."""
    done = WARMTH.run(["budget", "no-such"], {}, text="x" * 1_000_000, timeout=20)
    assert done.returncode == 2
    assert "Usage: python -m embedq.cli budget" in done.stdout
