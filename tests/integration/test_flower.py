"""``embedq flower``: a stranger gets nothing, a reader changes nothing, and nowhere is it open by mistake."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest
from flower.urls import handlers
from tornado.web import RequestHandler

from embedq_worker.embedded.valkey import Valkey
from tests.support.monitor import PASSWORD, Monitor, authorization
from tests.support.stack import Stack, wait_until

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WRONG = {
    "another user": authorization(user="admin"),
    "a beginning": authorization(password=PASSWORD[:-1]),
    "nothing": authorization("", ""),
    "not base64": "Basic !",
    "not UTF-8": "Basic /w==",
    "another scheme": authorization().replace("Basic", "Bearer"),
}
CONTROLS = {
    "/api/worker/shutdown/x",
    "/api/worker/pool/restart/x",
    "/api/worker/pool/grow/x",
    "/api/worker/pool/shrink/x",
    "/api/worker/pool/autoscale/x",
    "/api/worker/queue/add-consumer/x",
    "/api/worker/queue/cancel-consumer/x",
    "/api/task/apply/x",
    "/api/task/async-apply/x",
    "/api/task/send-task/x",
    "/api/task/abort/x",
    "/api/task/timeout/x",
    "/api/task/rate-limit/x",
    "/api/task/revoke/x",
}


@pytest.fixture(scope="module")
def monitor(valkey_server: Valkey) -> Iterator[Monitor]:
    """A running Flower, with a password."""
    with Monitor({"EMBEDQ_BROKER_URL": valkey_server.url}) as started:
        yield started


def routes() -> dict[str, type[RequestHandler]]:
    """A path of every route of Flower's, with something in the place of arguments."""
    found = {}
    for each in handlers:
        pattern, handler = (
            (each[0], each[1]) if isinstance(each, tuple) else (each.regex.pattern, each.handler_class)
        )
        path = re.sub(r"\(?\.[+*]\)?", "x", pattern).rstrip("$").replace("/?", "")
        found[path if path.startswith("/") else f"/{path}"] = handler
    return found


def paths() -> list[str]:
    """One of every route, and some that lead elsewhere or nowhere."""
    found = routes()
    assert {"/", "/tasks", "/broker", "/metrics", "/healthcheck", "/static/x", "/login", "/x"} <= set(found)
    return [*found, "/static/js/flower.js", "//", "/%2e%2e/metrics", "/workers?json=1", "/metrics/"]


@pytest.mark.parametrize("header", [None, authorization(password="another")])
def test_a_stranger_is_refused_everywhere(monitor: Monitor, header: str | None) -> None:
    """Every route, by every method, with the same answer, which says nothing."""
    for path in paths():
        for method in METHODS:
            answer = monitor.ask(path, method, header)
            assert answer.status == 401, (method, path, answer)
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
            assert method == "HEAD" or answer.body == "This Flower asks for a user and a password.\n"


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_credentials_are_refused(monitor: Monitor, wrong: str) -> None:
    """However they are wrong."""
    for path in ("/", "/metrics", "/api/workers", "/static/js/flower.js"):
        assert monitor.ask(path, header=WRONG[wrong]).status == 401


def test_a_stranger_opens_no_websocket(monitor: Monitor) -> None:
    """The handshake is a request like others."""
    wanted = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }

    assert monitor.ask("/update-workers", **wanted).status == 401


@pytest.mark.parametrize("path", ["/", "/tasks", "/api/workers", "/api/tasks", "/api/task/types", "/metrics"])
def test_a_reader_sees_every_page(monitor: Monitor, path: str) -> None:
    """Also what scripts ask for."""
    monitor.page(path)


def test_a_reader_sees_the_page_of_queues(monitor: Monitor) -> None:
    """Ours, in the place of Flower's."""
    assert "Queues and models" in monitor.page("/broker")
    assert "active_queues" in monitor.page("/api/queues/length")


def test_a_reader_changes_nothing(monitor: Monitor) -> None:
    """It is read-only: whatever takes a POST below /api."""
    posts = {
        path
        for path, each in routes().items()
        if path.startswith("/api/") and each.post is not RequestHandler.post
    }

    assert posts == CONTROLS
    assert {monitor.ask(path, "POST", authorization()).status for path in posts} == {403}


def test_read_write_revokes(stack: Stack) -> None:
    """With --read-write what is queued can be revoked."""
    with Monitor(stack.environment, ["--read-write"]) as monitor:
        assert monitor.ask("/api/task/revoke/x", "POST", authorization()).status == 200


def test_the_password_is_in_no_command_line_or_page(monitor: Monitor) -> None:
    """It is read from the environment, or from a file."""
    assert monitor.process is not None
    process = psutil.Process(monitor.process.pid)

    assert PASSWORD not in " ".join(process.cmdline())
    assert all(PASSWORD not in monitor.page(path) for path in ("/", "/tasks", "/broker", "/api/workers"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--address", "0.0.0.0"],
            "does not listen on '0.0.0.0' without a password: set EMBEDQ_FLOWER_PASSWORD",
        ),
        (["--address", ""], "on '' without a password"),
        (["--address", "flower.internal"], "on 'flower.internal' without a password"),
        (["--read-write"], "does not take --read-write without a password"),
    ],
)
def test_it_does_not_start_open(stack: Stack, arguments: list[str], said: str) -> None:
    """And says what to do."""
    assert said in stack.command("flower", *arguments, code=1)


def test_on_loopback_it_can_do_without(stack: Stack) -> None:
    """For this machine's own names only: a page on the web may make its own name lead here.

    Flower's own variable would open the API, to every page on the web that asks localhost.
    """
    stack.environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    with Monitor(stack.environment, password=None) as monitor:
        assert monitor.ask("/tasks").status == 200
        assert monitor.ask("/tasks", Host="localhost:5555").status == 200
        assert monitor.ask("/tasks", Host="evil.example").status == 403
        answer = monitor.ask("/api/tasks")
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, None)


def test_it_ends_while_redis_does_not_answer() -> None:
    """In the seconds that Docker gives it: threads that wait for Redis are not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with Monitor({"EMBEDQ_BROKER_URL": f"redis://127.0.0.1:{port}/0"}) as monitor:
            assert monitor.ask("/tasks", header=authorization()).status == 200
            told = time.monotonic()
        assert time.monotonic() - told < 8


def test_the_page_of_queues_says_that_redis_is_frozen() -> None:
    """Also where all of Flower's own threads wait for it; at the end a page that waits is cut."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {"EMBEDQ_BROKER_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"}
        with Monitor(environment, change="tests.support.monitor:one_thread") as monitor:
            answer = monitor.ask("/broker", header=authorization())
            assert answer.status == 503
            assert "did not answer" in answer.body
            waiting = HTTPConnection(monitor.url.removeprefix("http://"), timeout=10)
            waiting.request("GET", "/broker", headers={"Authorization": authorization()})
            assert monitor.ask("/tasks", header=authorization()).status == 200
        with pytest.raises((HTTPException, ConnectionError)):
            waiting.getresponse()
        waiting.close()
    assert "KeyError" not in monitor.said


def test_compose_can_ask(monitor: Monitor, stack: Stack, tmp_path: Path) -> None:
    """``--check`` answers with its exit code, and has the password from where Flower has it."""
    port = monitor.url.rpartition(":")[2]
    (tmp_path / "password").write_text(PASSWORD + "\n")
    stack.environment["EMBEDQ_FLOWER_PASSWORD_FILE"] = str(tmp_path / "password")
    assert stack.command("flower", "--check", "--port", port, "--address", "0.0.0.0") == "ready\n"
    (tmp_path / "password").write_text("another")
    assert "status 401; is its password another one?" in stack.command(
        "flower", "--check", "--port", port, code=1
    )
    assert "no answer of a Flower" in stack.command("flower", "--check", "--port", "1", code=1)


def test_a_port_that_is_taken(monitor: Monitor, stack: Stack) -> None:
    """One line, and no traceback."""
    port = monitor.url.rpartition(":")[2]
    said = stack.command("flower", "--port", port, code=1)

    assert said.startswith(f"embedq: Flower cannot listen on 127.0.0.1, port {port} (Address already in use)")


def test_keys_with_a_prefix(stack: Stack) -> None:
    """Queues and workers of this installation, and not those of another one on the same Redis."""
    stack.environment["EMBEDQ_KEY_PREFIX"] = "other:"
    stack.create("docs")
    with stack.producer(key_prefix="other:") as producer:
        producer.enqueue("docs", id="1", text="x")
    with Monitor(stack.environment) as monitor:
        lengths = monitor.page("/api/queues/length")
        assert '{"name": "embedq.docs", "messages": 1}' in lengths
        with stack.worker():
            wait_until(lambda: "embedq-" in monitor.page("/workers?json=1"), 20)
