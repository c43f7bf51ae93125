"""What Celery's own tools see: plain ``celery worker``, ``inspect``, events. They see counts, never texts."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from threading import Thread
from typing import Any

from celery import Celery

from tests.support.stack import Stack, wait_until
from tests.support.workers import READY

CANARY = "canary-sentence-that-no-monitor-may-show"


def send(client: Celery, *texts: str, **options: Any) -> None:
    """Enqueue as a stranger: Celery's defaults put the arguments' repr into the headers."""
    job = {"v": 1, "collection": "docs", "items": [{"id": text, "text": text} for text in texts]}
    client.send_task("embedq.embed", kwargs={"job": job}, queue="embedq.docs", ignore_result=True, **options)


def capture(receiver: Any) -> None:
    """Receive events until told to stop; if a test fails before that, end quietly."""
    with suppress(TimeoutError):
        receiver.capture(limit=None, timeout=20, wakeup=False)


def test_plain_celery_starts_a_worker(stack: Stack) -> None:
    """``celery -A embedq_worker.app worker`` is the same worker."""
    stack.create("docs")
    command = [sys.executable, "-m", "celery", "-A", "embedq_worker.app", "worker", "-l", "INFO"]
    process = subprocess.Popen(
        command, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if READY in line:
                break
        with stack.producer() as producer:
            producer.enqueue_many(
                "docs", [{"id": str(number), "text": f"text {number}"} for number in range(300)]
            )
            stack.wait_until_done()
        assert len(stack.stored("docs")) == 300
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_inspect_shows_counts(stack: Stack) -> None:
    """``inspect active``, ``stats`` and ``active_queues`` answer while the worker waits for the API."""
    stack.create("docs")
    stack.api.configure(latency=8)
    with stack.client() as client, stack.worker():
        send(client, CANARY, f"{CANARY} again")
        stack.api.wait_for(calls=1)
        inspect = client.control.inspect(timeout=5)
        (active,) = inspect.active().values()
        assert active[0]["kwargs"] == (
            f"{{'collection': 'docs', 'lane': 'live', 'items': 2, 'characters': {2 * len(CANARY) + 6}}}"
        )
        (stats,) = inspect.stats().values()
        assert stats["pool"]["messages-in-hand"] == 1
        (queues,) = inspect.active_queues().values()
        assert {"embedq.docs", "embedq.docs.bulk", "embedq.docs.query"} <= {queue["name"] for queue in queues}
        assert CANARY not in repr((active, stats, queues))
        stack.wait_until_done()


def test_inspecting_through_our_own_application_leaves_nothing(stack: Stack) -> None:
    """``celery -A embedq_worker.app inspect`` takes replies; they are not recorded as messages in hand."""
    command = [sys.executable, "-m", "celery", "-A", "embedq_worker.app", "inspect", "ping", "--timeout", "5"]
    with stack.worker():
        done = subprocess.run(
            command, env=stack.environment, capture_output=True, text=True, check=True, timeout=40
        )
    assert "pong" in done.stdout
    assert stack.pending() == 0


def test_events_show_counts(stack: Stack) -> None:
    """A monitor that turns events on gets a row a job, with its outcome in counts."""
    stack.create("docs")
    events: list[dict[str, Any]] = []
    with stack.client() as client, stack.worker("--events"), client.connection_for_read() as connection:
        receiver = client.events.Receiver(connection, handlers={"*": events.append})
        reading = Thread(target=capture, args=[receiver], daemon=True)
        reading.start()
        wait_until(lambda: stack.broker.pubsub_numpat() >= 2, 10)
        send(client, CANARY, "another", shadow=CANARY)
        wait_until(lambda: any(event["type"] == "task-succeeded" for event in events), 20)
        send(client, "", "\0")
        wait_until(lambda: any(event["type"] == "task-failed" for event in events), 20)
        receiver.should_stop = True
        stack.wait_until_done()
        reading.join(20)
    (done,) = [event for event in events if event["type"] == "task-succeeded"]
    assert done["result"]["items"] == done["result"]["stored"] == done["result"]["texts"] == 2
    assert {event["name"] for event in events if event["type"] == "task-received"} == {"embedq.embed:docs"}
    (failed,) = [event for event in events if event["type"] == "task-failed"]
    assert "AllItemsDead" in failed["exception"]
    assert "(1 text/id_nul, 1 text/wrong_type)" in failed["exception"]
    assert CANARY not in repr(events)


def test_a_revoked_job_does_not_run(stack: Stack) -> None:
    """Revoking works for what is still queued."""
    stack.create("docs")
    with stack.client() as client, stack.worker():
        task_id = "5b1a9a5e-93b8-4b22-a1bd-6d3d3ea9a9a1"
        client.control.revoke(task_id, reply=True, timeout=5)
        job = {"v": 1, "collection": "docs", "items": [{"id": "1", "text": "never"}]}
        client.send_task(
            "embedq.embed", kwargs={"job": job}, queue="embedq.docs", task_id=task_id, ignore_result=True
        )
        send(client, "after")
        wait_until(lambda: stack.stored("docs") == {"after": "after"}, 20)
        stack.wait_until_done()
    assert stack.stored("docs") == {"after": "after"}
