"""The fake API as a process and as a documented tool."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedq.testing import FakeAPI, FakeAPIError
from embedq.testing.control import Behaviour
from embedq.testing.faults import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
DOCS = PAGE.read_text().partition("\n## The fake API\n")[2].partition("\n## ")[0]


def test_a_foreign_server_is_noticed() -> None:
    """Two fake APIs never answer for each other."""
    with FakeAPI() as one, FakeAPI() as other:
        assert one.base_url != other.base_url
        one._hello.port = other._hello.port
        with pytest.raises(FakeAPIError, match="token"):
            one.stats()


def test_it_ends_with_its_block() -> None:
    """After the block nothing runs, and the handle says so."""
    with FakeAPI() as api:
        pid = api.pid
        assert psutil.pid_exists(pid)

    assert not psutil.pid_exists(pid)
    with pytest.raises(FakeAPIError, match="does not answer"):
        api.stats()


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts a fake API, prints its pid and port, and waits."""
    code = (
        "import embedq.testing as t, time\n"
        "with t.FakeAPI() as api: print(api.pid, api.base_url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_it_dies_with_its_parent(orphan: subprocess.Popen[bytes]) -> None:
    """When its parent is killed, the server goes."""
    assert orphan.stdout is not None
    pid = int(orphan.stdout.readline().split()[0])
    server = psutil.Process(pid)

    os.kill(orphan.pid, signal.SIGKILL)

    server.wait(timeout=10)


def test_the_server_runs_alone() -> None:
    """The module serves without a parent's pipe, until it is told to stop."""
    command = [sys.executable, "-m", "embedq.testing.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        hello = json.loads(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", hello["port"]), timeout=5):
            process.terminate()
    assert (hello["pid"], process.returncode) == (process.pid, 0)


def test_every_fault_is_documented() -> None:
    """The page's tables name each fault of the registry and each setting, and nothing else."""
    rows = set(re.findall(r"^\| `(\w+)", DOCS, flags=re.MULTILINE))

    assert rows == {fault.__name__ for fault in FAULTS} | set(Behaviour.__struct_fields__)


def test_every_method_is_documented() -> None:
    """The page's table of methods names each one of the handle, and nothing else."""
    rows = set(re.findall(r"`\.(\w+)", DOCS))

    assert rows == {name for name in dir(FakeAPI) if not name.startswith("_")} - {"vector"}
