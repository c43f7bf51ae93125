"""What real workers print as JSON: every line is an object, whoever says it."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from tests.support.stack import Stack, wait_until
from tests.support.workers import Worker

HEAD = {"timestamp", "level", "logger", "message", "pid"}


def test_every_line_is_an_object(stack: Stack) -> None:
    """The supervisor's, its workers' and Celery's, each with its process; a defect is one line too."""
    stack.environment["EMBEDQ_LOG_FORMAT"] = "json"
    stack.create("docs")
    with stack.worker(processes=2) as worker:
        stack.broker.lpush("embedq.docs", b"no job")
        wait_until(lambda: "not_a_job" in worker.output, 20)
        (buried,) = events(worker, "not_a_job")
        os.kill(buried["pid"], signal.SIGKILL)
        wait_until(lambda: "process_died" in worker.output, 20)
    lines = said(worker)
    assert all(line.keys() >= HEAD for line in lines)
    assert {line.get("process") for line in lines} == {None, 0, 1}
    assert any(line["logger"].startswith("celery.") and "ready" in line["message"] for line in lines)
    assert len(events(worker, "worker_stops")) >= 1
    assert (buried["level"], buried["queue"], buried["code"]) == ("warning", "embedq.docs", "undecodable")
    (died,) = events(worker, "process_died")
    assert (died["code"], died["worker"]) == (-signal.SIGKILL, buried["pid"])


def test_a_defect_is_one_line(stack: Stack) -> None:
    """With its traceback in a field; in the form for people it takes several."""
    stack.environment["EMBEDQ_LOG_FORMAT"] = "json"
    stack.create("docs")
    change = "tests.support.defect:when_written"
    with Worker(stack.environment, change=change) as worker, stack.producer() as producer:
        producer.enqueue("docs", id="1", text="a text")
        stack.wait_until_done()
    (defect,) = events(worker, "row_not_written")
    assert defect["error"] == "RuntimeError"
    assert defect["traceback"].startswith("RuntimeError at\n  File ")


def said(worker: Worker) -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in list(worker.lines)]


def events(worker: Worker, event: str) -> list[dict[str, Any]]:
    """Those that are this event."""
    return [line for line in said(worker) if line.get("event") == event]
