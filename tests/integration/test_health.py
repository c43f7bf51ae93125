"""Probes of a real worker: live while it turns, ready while it can work, and what they say otherwise."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.process import free_port
from embedq_worker.embedded.valkey import Valkey
from tests.support.postgres import set_read_only
from tests.support.stack import Stack, wait_until

BLOCKED_HUB = """
import pathlib, sys, time
from embedq_worker.pool import EnginePool

register = EnginePool.register_with_event_loop

def registered(pool, hub):
    register(pool, hub)
    hub.call_soon(block)

def block():
    while pathlib.Path(FLAG).exists():
        time.sleep(0.05)

FLAG = sys.argv[1]
EnginePool.register_with_event_loop = registered
sys.argv = ["embedq", "worker"]
from embedq.cli import main
main()
"""


@pytest.fixture
def port(stack: Stack) -> int:
    """Where the workers of the stack answer probes; leases are short."""
    port = free_pair()
    stack.environment["EMBEDQ_METRICS_PORT"] = str(port)
    stack.configure("[worker]\nmessage_lease = 2\ndatabase_timeout = 1\n")
    return port


def free_pair() -> int:
    """A free port after which the next one is free as well."""
    while True:
        port = free_port()
        with socket.socket() as next_one, suppress(OSError):
            next_one.bind(("127.0.0.1", port + 1))
            return port


def probe(port: int, path: str) -> tuple[int, str]:
    """Status and reasons; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, " ".join(json.loads(answer.read())["reasons"])
    except HTTPError as error:
        with error:
            return error.code, " ".join(json.loads(error.read())["reasons"])
    except URLError:
        return 0, ""


def becomes(port: int, path: str, status: int, reason: str = "", within: float = 15) -> None:
    """Wait for an answer."""

    def is_so() -> bool:
        found, said = probe(port, path)
        return found == status and reason in said

    wait_until(is_so, within, lambda: str(probe(port, path)))


@contextmanager
def saboteur(stack: Stack, flag: Path) -> Iterator[None]:
    """A worker whose hub stands still for as long as a file exists."""
    command = [sys.executable, "-c", BLOCKED_HUB, str(flag)]
    process = subprocess.Popen(command, env=stack.environment, start_new_session=True)
    try:
        yield
    finally:
        flag.unlink(missing_ok=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_worker_is_live_and_ready(stack: Stack, port: int) -> None:
    """And every process of several has a port of its own; the command asks them all."""
    with stack.worker(processes=2):
        for each in (port, port + 1):
            becomes(each, "/readyz", 200)
            assert probe(each, "/livez") == (200, "")
        assert stack.command("health", "--processes", "2") == "ready\n"
        assert stack.command("health", "--live") == "live\n"
        said = stack.command("health", "--processes", "3", code=1)
        assert f"127.0.0.1:{port + 2} cannot work: no answer of a worker" in said


def test_a_worker_without_redis_is_live_and_not_ready(stack: Stack, port: int, valkey_server: Valkey) -> None:
    """It waits for it, and is ready again when it is back."""
    with stack.worker():
        becomes(port, "/readyz", 200)
        valkey_server.stop()
        try:
            becomes(port, "/readyz", 503, "Redis has not answered for")
            assert probe(port, "/livez")[0] == 200
            assert "look whether it runs" in stack.command("health", code=1)
            stack.command("health", "--live")
        finally:
            valkey_server.start()
        becomes(port, "/readyz", 200)


def test_a_worker_without_postgres_is_live_and_not_ready(
    stack: Stack, port: int, postgres_server: Postgres
) -> None:
    """It says why, without the URL's secrets."""
    with stack.worker():
        becomes(port, "/readyz", 200)
        postgres_server.stop()
        try:
            becomes(port, "/readyz", 503, "Postgres")
            assert probe(port, "/livez")[0] == 200
        finally:
            postgres_server.start()
        becomes(port, "/readyz", 200)


def test_a_worker_that_may_not_write_is_not_ready(stack: Stack, port: int) -> None:
    """Also when nothing waits to be written."""
    with stack.worker():
        becomes(port, "/readyz", 200)
        set_read_only(stack.database_url, True)
        try:
            becomes(port, "/readyz", 503, "the database is read-only")
        finally:
            set_read_only(stack.database_url, False)
        becomes(port, "/readyz", 200)


def test_a_hub_that_stands_still_is_not_live(stack: Stack, port: int, tmp_path: Path) -> None:
    """The engine goes on and says so."""
    flag = tmp_path / "stand-still"
    flag.touch()
    with saboteur(stack, flag):
        becomes(port, "/livez", 503, "the hub thread has stood still for")
        assert "restart the worker" in stack.command("health", "--live", code=1)
        flag.unlink()
        becomes(port, "/livez", 200)


def test_a_draining_worker_is_not_ready(stack: Stack, port: int) -> None:
    """From the signal on; it is live until it has ended."""
    stack.create("docs")
    stack.api.configure(latency=3.0)
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue("docs", id="1", text="one")
        stack.api.wait_for(in_flight=1, timeout=10)
        assert probe(port, "/readyz")[0] == 200
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        becomes(port, "/readyz", 503, "the worker is draining", within=2.5)
        assert probe(port, "/livez")[0] == 200
        assert worker.stop() == 0


def test_a_worker_whose_port_is_taken_works(stack: Stack, port: int) -> None:
    """It says so and tries again; the one that has the port keeps it."""
    stack.create("docs")
    with stack.worker(), stack.worker() as second, stack.producer() as producer:
        wait_until(lambda: f"probes cannot be answered at 127.0.0.1:{port}" in second.output, 10)
        producer.enqueue("docs", id="1", text="one")
        stack.wait_until_done()
        becomes(port, "/readyz", 200)


def test_the_command_needs_the_port(stack: Stack) -> None:
    """It says which variable to set."""
    assert "EMBEDQ_METRICS_PORT is not set" in stack.command("health", code=1)
