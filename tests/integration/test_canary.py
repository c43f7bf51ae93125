"""No text and no key gets out, whatever fails: logs, events, monitors, headers, tables, Postgres' own log.

A canary goes through everything that can become of a message, and every place is searched for it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest

from embedq import QueryFailed
from embedq.testing import faults
from embedq_worker.embedded.postgres import Postgres
from tests.support import canary
from tests.support.canary import KEY, TEXT, WORD, Watch
from tests.support.stack import Stack, wait_until


@pytest.fixture
def watch(stack: Stack, postgres_server: Postgres) -> Watch:
    """A collection on a server that logs all it can, an API that wants the key, and a watch over all."""
    canary.log_everything(stack.database_url)
    stack.environment["EMBEDQ_API_KEY"] = KEY
    stack.api.configure(api_key=KEY)
    stack.create("docs")
    return Watch(stack, postgres_server.data.parent / "postgres.log")


NINE = [{"id": str(number), "text": f"{number} {TEXT}"} for number in range(9)]


def letters(stack: Stack) -> list[tuple[Any, ...]]:
    """Class and code of the dead letters."""
    return stack.sql("SELECT class, code FROM embedq.dead_letter ORDER BY number")


def test_the_watch_sees(watch: Watch) -> None:
    """A canary in any of the places is a hit, in base64 too."""
    stack = watch.stack
    stack.broker.hset("embedq:anything", "field", base64.b64encode(f"x{TEXT}".encode()).decode())
    stack.broker.lpush("embedq.docs", f"{KEY} {TEXT}")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("CREATE TABLE embedq.other AS SELECT %s AS said", [TEXT])
        connection.execute("DO $$ BEGIN RAISE LOG 'canary sentence 7f3e'; END $$")
    watch.events.append({"type": "task-failed", "exception": TEXT})
    watch.see("somewhere", TEXT)
    assert watch.hits() == [
        "the key in Redis key embedq.docs",
        "the text in Redis key embedq:anything",
        "the text in events",
        "the text in somewhere",
        "the text in table embedq.other",
        "the text in the server's log",
    ]


def test_what_goes_well(watch: Watch) -> None:
    """With the cache of vectors; also texts in a stranger's headers, and a message without any header."""
    stack = watch.stack
    stack.configure("[worker]\nvector_cache_days = 1\n")
    job = {"v": 1, "collection": "docs", "items": [{"id": "theirs", "text": TEXT}]}
    with watch.worker(), stack.producer() as producer, stack.client() as client:
        producer.enqueue("docs", id="1", text=TEXT)
        producer.enqueue_many(
            "docs", [{"id": str(number), "text": f"{number} {TEXT}"} for number in range(9)]
        )
        client.send_task("embedq.embed", kwargs={"job": job}, queue="embedq.docs", ignore_result=True)
        stack.broker.lpush("embedq.docs", envelope(arguments({"id": "bare", "text": TEXT})))
        told = dict.fromkeys(("root_id", "parent_id", "retries"), TEXT)
        headers = {"task": "embedq.embed", "id": str(uuid4()), **told}
        stack.broker.lpush("embedq.docs", envelope(arguments({"id": "bare", "text": TEXT}), headers=headers))
        headers = {"task": "embedq.embed", "id": TEXT}
        stack.broker.lpush("embedq.docs", envelope(arguments({"id": "named", "text": TEXT}), headers=headers))
        stack.wait_until_done()
        producer.enqueue("docs", id="1", text=TEXT)
        producer.delete("docs", ["2"])
        assert producer.embed_query("docs", TEXT)
        stack.wait_until_done()
        watch.commands()
    assert len(stack.stored("docs")) == 11
    assert {event["type"] for event in watch.events} >= {"task-received", "task-started", "task-succeeded"}
    assert watch.hits() == []


def test_monitors_ask_while_it_waits(watch: Watch) -> None:
    """Everything that ``celery inspect`` can ask, about a job in hand and one that waits for a slot."""
    stack = watch.stack
    task_id = str(uuid4())
    job = {"v": 1, "collection": "docs", "items": [{"id": "1", "text": TEXT}]}
    stack.api.inject(faults.Hang())
    with watch.worker(), stack.client() as client:
        client.send_task("embedq.embed", kwargs={"job": job}, queue="embedq.docs", task_id=task_id)
        stack.api.wait_for(calls=1)
        watch.inspect(client, task_id)
        watch.commands()
        stack.api.reset()
        stack.api.configure(api_key=KEY)
        stack.wait_until_done()
    assert watch.hits() == []


FAULTS: list[faults.AnyFault] = [
    faults.Status(status=429, message=f"slow down: {TEXT} {KEY}", retry_after="0.1"),
    faults.Status(status=500, message=f"failed on {TEXT} {KEY}"),
    faults.Hang(),
    faults.Reset(),
    faults.CutJSON(),
    faults.NotJSON(),
    faults.WrongCount(),
    faults.WrongIndex(),
    faults.WrongDimensions(),
    faults.NotFinite(),
    faults.ZeroVector(),
]


def test_what_the_service_does_for_a_while(watch: Watch) -> None:
    """Overload, errors that quote the text, time-outs, resets, every malformed answer; then it is well."""
    stack = watch.stack
    stack.configure("[worker]\nrequest_timeout = 1.0\n")
    with watch.worker(), stack.producer() as producer:
        for number, fault in enumerate(FAULTS):
            stack.api.inject(fault, next_calls=1)
            producer.enqueue("docs", id=str(number), text=f"{number} {TEXT}")
            stack.wait_until_done()
        watch.commands()
    assert stack.api.stats().calls == 2 * len(FAULTS)
    assert len(stack.stored("docs")) == len(FAULTS)
    assert watch.hits() == []


def test_the_service_refuses_the_text(watch: Watch) -> None:
    """With words that quote it; a query's too, and again when it is replayed."""
    stack = watch.stack
    refusal = faults.Status(status=400, message=f"Invalid input: {TEXT!r}")
    stack.api.inject(refusal, marker="bad")
    with watch.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [*NINE, {"id": "bad", "text": f"bad {TEXT}"}])
        stack.wait_until_done()
        with pytest.raises(QueryFailed) as failed:
            producer.embed_query("docs", f"bad {TEXT}")
        watch.see("the error that the caller gets", f"{failed.value} {failed.value!r}")
        watch.see("embedq dead-letters replay", watch.command("dead-letters replay docs"))
        stack.wait_until_done()
        watch.commands()
    assert [kind for kind, _ in letters(stack)] == ["text"]
    assert watch.hits() == []


def test_the_service_gives_the_text_as_a_name(watch: Watch) -> None:
    """As the code and the parameter of its refusal."""
    stack = watch.stack
    body = json.dumps({"error": {"message": WORD, "code": WORD, "type": WORD, "param": f"input.{WORD}"}})
    stack.api.inject(faults.Status(status=400, body=body))
    with watch.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text=WORD)
        stack.wait_until_done()
        watch.commands()
    assert letters(stack) == [("text", "bad_input")]
    assert watch.hits() == []


def test_the_service_refuses_the_key(watch: Watch) -> None:
    """With words that quote it. The model is paused; its jobs wait."""
    stack = watch.stack
    stack.api.inject(faults.Status(status=401, message=f"Incorrect API key provided: {KEY}"))
    with watch.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text=TEXT)
        wait_until(lambda: "PAUSED" in watch.command("status"), 20)
        watch.commands()
    assert stack.pending() == 1
    assert watch.hits() == []


@pytest.mark.parametrize(
    "refusal",
    ["ALTER TABLE docs ADD CHECK (id <> 'bad')", "CREATE UNIQUE INDEX ON docs (content)"],
    ids=["a constraint", "a unique index"],
)
def test_postgres_refuses_the_row(watch: Watch, refusal: LiteralString) -> None:
    """Its log would quote the row, by Postgres' own defaults."""
    stack = watch.stack
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(refusal)
    with watch.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": name, "text": TEXT} for name in ("bad", "good")])
        stack.wait_until_done()
        watch.commands()
    assert [kind for kind, _ in letters(stack)] == ["row"]
    assert watch.hits() == []


def envelope(body: object, **changes: Any) -> bytes:
    """A message as kombu stores it; a body in bytes is taken as it is."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    stored = {
        "body": base64.b64encode(encoded).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "embedq.embed", "id": str(uuid4())},
        "properties": {"delivery_tag": "theirs", "body_encoding": "base64", "delivery_info": {}},
        **changes,
    }
    return json.dumps(stored).encode()


def arguments(*items: object, **changes: object) -> list[object]:
    """The body of a job's message."""
    return [[], {"job": {"v": 1, "collection": "docs", "items": items, **changes}}, {}]


GOOD = {"id": "1", "text": TEXT}
STRANGE = {
    "no envelope": TEXT.encode(),
    "not JSON": envelope(TEXT.encode()),
    "not text": envelope(b"\xff" + TEXT.encode()),
    "another encoding": envelope(arguments(GOOD), **{"content-encoding": "utf-7"}),
    "no arguments": envelope(TEXT),
    "no job": envelope([[TEXT], {"text": TEXT}, {}]),
    "an unknown task": envelope([[TEXT], {"job": TEXT}, {}], headers={"task": "their.task", "id": "x"}),
    "no task": envelope(arguments(GOOD), headers={"id": TEXT}),
    "pickled": envelope(arguments(GOOD), **{"content-type": "application/x-python-serialize"}),
    "an unknown version": envelope(arguments(GOOD, v=9)),
    "an unknown collection": envelope(arguments(GOOD, collection="other")),
    "no items": envelope(arguments(GOOD, items=TEXT)),
    "a bad item": envelope(arguments({"id": "1", "text": [TEXT]}, TEXT, {"text": TEXT})),
    "a query among jobs": envelope(
        [[], {"v": 1, "collection": "docs", "text": TEXT}, {}], headers={"task": "embedq.query", "id": "x"}
    ),
    "too late": envelope(
        arguments(GOOD), headers={"task": "embedq.embed", "id": "late", "expires": "2020-01-01T00:00:00"}
    ),
}


def test_messages_that_are_no_jobs(watch: Watch) -> None:
    """Each way of being malformed, unknown or undecodable; the text is in no dead letter but its text."""
    stack = watch.stack
    with watch.worker():
        for message in STRANGE.values():
            stack.broker.lpush("embedq.docs", message)
        stack.broker.lpush("embedq.gone", envelope(arguments(GOOD, collection="gone")))
        stack.broker.delete("embedq.gone")
        wait_until(lambda: stack.pending() == 0, 20)
        watch.commands()
    assert len(letters(stack)) >= len(STRANGE) - 1
    assert watch.hits() == []


@pytest.mark.parametrize("moment", ["when_taken_in", "when_written"])
def test_a_defect_of_ours(watch: Watch, moment: str) -> None:
    """An exception that quotes the text is logged without what it says, as JSON too."""
    stack = watch.stack
    stack.environment["EMBEDQ_LOG_FORMAT"] = "json" if moment == "when_written" else "human"
    with (
        watch.worker(change=f"tests.support.defect:{moment}") as worker,
        stack.producer() as producer,
    ):
        producer.enqueue("docs", id="1", text=TEXT)
        stack.wait_until_done()
        watch.commands()
        assert "RuntimeError" in worker.output
    assert len(letters(stack)) == 1
    assert watch.hits() == []


def test_a_worker_is_killed(watch: Watch) -> None:
    """What it held is taken over, and run by another."""
    stack = watch.stack
    stack.configure("[worker]\nmessage_lease = 1.0\nlease = 1.0\n")
    stack.api.inject(faults.Hang())
    with watch.worker() as worker, stack.producer() as producer:
        producer.enqueue_many(
            "docs", [{"id": str(number), "text": f"{number} {TEXT}"} for number in range(9)]
        )
        stack.api.wait_for(calls=1)
        worker.kill()
        watch.commands()
    stack.api.reset()
    stack.api.configure(api_key=KEY)
    with watch.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 9
    assert watch.hits() == []


def test_headers_of_a_producer(watch: Watch) -> None:
    """A message without its body says nothing of what is in it."""
    stack = watch.stack
    with stack.producer() as producer:
        producer.enqueue("docs", id="1", text=TEXT, metadata={"said": TEXT})
        producer.enqueue_many("docs", [{"id": "2", "text": TEXT}], lane="bulk")
        for queue in ("embedq.docs", "embedq.docs.bulk"):
            for message in stack.broker.lrange(queue, 0, -1):
                watch.see("a message's headers", canary.without_body(message))
        watch.see("the producer", repr(producer))
    assert watch.hits() == []
