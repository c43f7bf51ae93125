"""``embedq dead-letters``: what died is listed, replayed and dropped, and no crash in between loses it."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import psycopg
import pytest
from psycopg import sql

from embedq.broker import Broker
from embedq.messages import Message, job_message
from embedq_worker.errors import StoreError
from embedq_worker.store.burial import DeadLetter, bury
from embedq_worker.store.connections import connect
from embedq_worker.store.database import Database
from embedq_worker.store.dead_letters import ALL, COUNTED, count_chosen, count_some_dead_letters
from embedq_worker.store.replay import Replay
from tests.support.stack import Stack, wait_until

CANARY = "canary-sentence-that-no-log-may-hold"


def died(number: int, **fields: Any) -> DeadLetter:
    """The letter of an item."""
    item = {"id": str(number), "text": f"text {number}", "version": number + 1, "metadata": {"n": number}}
    given: dict[str, Any] = {
        "collection": "docs",
        "lane": "live",
        "cause": "row",
        "code": "23514",
        "item_id": str(number),
        "version": number + 1,
        "source": "shop",
        "payload": json.dumps(item),
    }
    return DeadLetter(**(given | fields))


def bury_all(stack: Stack, letters: Sequence[DeadLetter]) -> None:
    """Write letters as a worker does."""

    async def write() -> None:
        database = Database(stack.database_url, connections=1)
        await database.open()
        await bury(database, letters)
        await database.close()

    asyncio.run(write())


def queued(stack: Stack, queue: str = "embedq.docs") -> list[dict[str, Any]]:
    """The jobs on a queue, oldest first."""
    raw: Any = stack.broker.lrange(queue, 0, -1)
    bodies = [json.loads(base64.b64decode(json.loads(message)["body"])) for message in reversed(raw)]
    return [body[1]["job"] for body in bodies]


def queued_ids(stack: Stack) -> list[str]:
    """The ids of the items on the queue of ``docs``."""
    return [item["id"] for job in queued(stack) for item in job["items"]]


def letter_ids(stack: Stack) -> list[str]:
    """The ids of the items that are dead letters."""
    return [item_id for (item_id,) in stack.sql("SELECT item_id FROM embedq.dead_letter ORDER BY number")]


def versions(stack: Stack) -> dict[str, tuple[int, Any]]:
    """Version and metadata of each row."""
    rows = stack.sql("SELECT id, version, metadata FROM docs")
    return {item_id: (version, metadata) for item_id, version, metadata in rows}


def test_items_come_back_as_they_were(stack: Stack) -> None:
    """Id, version, metadata, source and lane; what is newer is not overwritten."""
    stack.create("docs", "--versions", "given")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("ALTER TABLE docs ADD CONSTRAINT short CHECK (length(content) < 3)")
    items = [{"id": str(n), "text": "too long", "version": n, "metadata": {"n": n}} for n in range(5)]
    with stack.worker(), stack.producer(source="shop") as producer:
        producer.enqueue_many("docs", items, lane="bulk")
        stack.wait_until_done()
        producer.enqueue("docs", id="4", text="ok", version=9)
        stack.wait_until_done()
    assert letter_ids(stack) == ["0", "1", "2", "3", "4"]
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("ALTER TABLE docs DROP CONSTRAINT short")

    assert stack.command("dead-letters", "replay", "docs") == "5 dead letters queued again\n"

    assert letter_ids(stack) == []
    assert stack.sql("SELECT * FROM embedq.dead_letter_text") == []
    (job,) = queued(stack, "embedq.docs.bulk")
    assert (job["source"], job["items"]) == ("shop", items)
    with stack.worker():
        stack.wait_until_done()
    assert versions(stack) == {str(n): (n, {"n": n}) for n in range(4)} | {"4": (9, {})}


def test_many_are_replayed_at_a_rate(stack: Stack) -> None:
    """In full messages, no faster than told; replayed twice they add nothing."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(2000)])
    began = monotonic()
    said = stack.command("dead-letters", "replay", "--rate", "1000")
    seconds = monotonic() - began

    assert said == "2,000 dead letters queued again\n"
    assert seconds > 7 * 256 / 1000
    assert [len(job["items"]) for job in queued(stack)] == [256] * 7 + [208]
    assert stack.command("dead-letters", "replay") == "0 dead letters queued again\n"
    assert stack.broker.llen("embedq.docs") == 8
    with stack.worker():
        stack.wait_until_done()
    assert versions(stack) == {str(n): (n + 1, {"n": n}) for n in range(2000)}
    assert stack.api.stats().texts == 2000
    assert letter_ids(stack) == []


def test_a_killed_replay_loses_nothing(stack: Stack) -> None:
    """Each item is queued or still a dead letter; run again, the rest is replayed."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(1000)])
    command = [sys.executable, "-m", "embedq.cli", "dead-letters", "replay", "--rate", "300"]
    with subprocess.Popen(command, env=stack.environment, stdout=subprocess.PIPE) as process:
        wait_until(lambda: stack.broker.llen("embedq.docs") > 1, 20)
        process.send_signal(signal.SIGKILL)
    assert 0 < len(letter_ids(stack)) < 1000
    assert set(queued_ids(stack)) | set(letter_ids(stack)) == {str(number) for number in range(1000)}

    stack.command("dead-letters", "replay", "--rate", "100000")
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 1000
    assert stack.api.stats().billed_again == 0
    assert letter_ids(stack) == []


class CutOff(Broker):
    """After the first message Postgres ends the replay's connection: it dies before its commit."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        super().__init__(url)
        self._cut = connection.info

    def publish(self, messages: Sequence[Message], *, wake: bool = False) -> None:
        """Publish, then cut."""
        super().publish(messages, wake=wake)
        with psycopg.connect(self._cut.dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (self._cut.backend_pid,))


def test_a_crash_between_the_two_steps_costs_nothing(stack: Stack) -> None:
    """The items are queued and are dead letters too; done twice they are stored once and paid once."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(10)])
    with connect(stack.database_url) as connection:
        broker = CutOff(stack.broker_url, connection)
        with pytest.raises(StoreError, match="were not replayed"):
            list(Replay(connection, broker, ALL, last=10, at_once=4).batches())
        broker.close()
    assert queued_ids(stack) == ["0", "1", "2", "3"]
    assert len(letter_ids(stack)) == 10

    stack.command("dead-letters", "replay")
    assert len(queued_ids(stack)) == 14
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 10
    assert stack.api.stats().texts == 10


def test_redis_away_leaves_the_letters(stack: Stack) -> None:
    """One line says what happened and what to do."""
    stack.create("docs")
    bury_all(stack, [died(1)])
    stack.environment["EMBEDQ_BROKER_URL"] = "redis://127.0.0.1:1/0"
    said = stack.command("dead-letters", "replay", code=1)
    assert "did not answer" in said
    assert "0 dead letters queued again before, the others stay: run it again" in said
    assert letter_ids(stack) == ["1"]


def test_replays_share_the_work(stack: Stack) -> None:
    """Four at a time: every item is queued once."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(400)])

    def replay(_: int) -> int:
        with connect(stack.database_url) as connection:
            _, last = count_chosen(connection, ALL)
            broker = Broker(stack.broker_url)
            done = [
                len(each.enqueued) for each in Replay(connection, broker, ALL, last=last, at_once=7).batches()
            ]
            broker.close()
        return sum(done)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(replay, range(4))) == 400
    assert sorted(Counter(queued_ids(stack)).items()) == sorted((str(n), 1) for n in range(400))
    assert letter_ids(stack) == []


def test_what_dies_again_is_replayed_once(stack: Stack) -> None:
    """Its new letter is not meant: the command ends though nothing is mended."""
    stack.create("docs")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("ALTER TABLE docs ADD CHECK (content <> 'text 1')")
    bury_all(stack, [died(number) for number in range(1, 4)])
    replayed: list[int] = []
    with stack.worker(), connect(stack.database_url) as opened:
        _, last = count_chosen(opened, ALL)
        broker = Broker(stack.broker_url)
        for batch in Replay(opened, broker, ALL, last=last, at_once=1).batches():
            replayed += batch.enqueued
            stack.wait_until_done()
            assert len(replayed) <= 3
        broker.close()
    assert len(replayed) == 3
    assert letter_ids(stack) == ["1"]
    assert stack.sql("SELECT number > %s FROM embedq.dead_letter", (last,)) == [(True,)]


def test_messages_come_back(stack: Stack) -> None:
    """Jobs of a collection that there was not, and raw messages, byte for byte; others say why not."""
    job = {"v": 1, "collection": "docs", "items": [{"id": "1", "text": f"early {CANARY}"}]}
    body = b'{"v":1,"collection":"docs","items":[{"id":"2","text":"raw","version":5}]}'
    raw = job_message("docs", "embedq.docs", body, 1, 3.0).payload
    killer = {"item_id": None, "version": None, "cause": "killer", "code": "killed_its_worker"}
    strange = {**killer, "cause": "not_a_job", "code": "undecodable"}
    early = {**killer, "cause": "not_a_job", "code": "unknown_collection", "version": 7_000_000}
    bury_all(
        stack,
        [
            died(0, payload=json.dumps({"job": job}), **early),
            died(0, payload=raw.decode(), **killer),
            died(0, payload=f"no json {CANARY}", **strange),
            died(3, collection="nowhere"),
            died(4, payload=json.dumps({"id": "4", "text": ""})),
        ],
    )
    stack.create("docs")

    said = stack.command("dead-letters", "replay", code=1)

    assert "is not replayed: what is kept of it is neither a message nor a job (undecodable)" in said
    assert "is not replayed: there is no collection 'nowhere'; create it first" in said
    assert "is not replayed: its item breaks the contract: text_empty" in said
    assert "2 dead letters queued again; 3 cannot be replayed and stay" in said
    assert CANARY not in said
    assert raw in stack.broker.lrange("embedq.docs", 0, -1)
    with stack.worker():
        stack.wait_until_done()
    assert stack.stored("docs") == {"1": f"early {CANARY}", "2": "raw"}
    assert versions(stack) == {"1": (7_000_000, {}), "2": (5, {})}
    assert letter_ids(stack) == [None, "3", "4"]


def test_the_items_of_a_job_count_for_the_rate(stack: Stack) -> None:
    """A letter of a whole job is as many items as the job has."""
    stack.create("docs")
    job = {"v": 1, "collection": "docs", "items": [{"id": each, "text": each} for each in "abc"]}
    payload = json.dumps({"job": job})
    bury_all(stack, [died(0, item_id=None, cause="not_a_job", payload=payload), died(1)])
    with connect(stack.database_url) as connection:
        broker = Broker(stack.broker_url)
        (batch,) = Replay(connection, broker, ALL, last=2, at_once=10).batches()
        broker.close()
    assert (batch.enqueued, batch.items) == ([1, 2], 4)
    assert sorted(queued_ids(stack)) == ["1", "a", "b", "c"]


def test_a_text_is_mended_in_place(stack: Stack) -> None:
    """An item that named no version has that of its message: what was enqueued after it stays."""
    stack.create("docs")
    with stack.worker(), stack.producer() as producer, stack.client() as client:
        job = {"v": 1, "collection": "docs", "items": [{"id": "old", "text": ""}, {"id": "new", "text": " "}]}
        client.send_task(
            "embedq.embed",
            kwargs={"job": job},
            queue="embedq.docs",
            ignore_result=True,
            headers={"embedq_enqueued_at": 5.0},
        )
        producer.enqueue("docs", id="old", text="enqueued later")
        wait_until(lambda: len(stack.stored("docs")) == 1, 20)
        stack.wait_until_done()
    assert stack.sql("SELECT version FROM embedq.dead_letter") == [(5_000_000,)] * 2
    with psycopg.connect(stack.database_url) as connection:
        mend = (
            "UPDATE embedq.dead_letter_text SET payload = jsonb_set(payload::jsonb, '{text}', '\"mended\"')"
        )
        connection.execute(mend)
    stack.command("dead-letters", "replay")
    with stack.worker():
        stack.wait_until_done()
    assert stack.stored("docs") == {"old": "enqueued later", "new": "mended"}


def test_filters(stack: Stack) -> None:
    """Of collection, number, class and code; a letter must pass all of them; drop asks first."""
    stack.create("docs")
    bury_all(
        stack,
        [
            died(1),
            died(2, cause="text", code="too_long"),
            died(3, code="23502"),
            died(4, collection="other"),
            died(5),
        ],
    )

    def listed(*filters: str) -> list[str]:
        lines = stack.command("dead-letters", "list", "--json", *filters).splitlines()
        return sorted(json.loads(line)["item_id"] for line in lines if line.startswith("{"))

    assert listed() == ["1", "2", "3", "4", "5"]
    assert listed("--collection", "docs", "--class", "row") == ["1", "3", "5"]
    assert listed("--code", "23514", "--number", "1", "--number", "2") == ["1"]
    assert "Drop 5 dead letters for good" in stack.command("dead-letters", "drop", stdin="n\n", code=1)
    assert "[text|row|successor|not_a_job|killer]" in stack.command("dead-letters", "drop", "--help")
    assert stack.command("dead-letters", "drop", "--number", "9", "--yes") == "0 dead letters dropped\n"
    assert len(letter_ids(stack)) == 5
    dropped = stack.command("dead-letters", "drop", "docs", "--code", "23502", "--yes")
    assert dropped == "1 dead letter dropped\n"
    assert letter_ids(stack) == ["1", "2", "4", "5"]
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter_text") == [(4,)]
    stack.command("dead-letters", "replay", "docs", "--class", "row", "--number", "5", "--lane", "bulk")
    assert letter_ids(stack) == ["1", "2", "4"]
    assert [item["id"] for job in queued(stack, "embedq.docs.bulk") for item in job["items"]] == ["5"]


def test_a_letter_without_its_text(stack: Stack) -> None:
    """Listed as such, and not replayed."""
    stack.create("docs")
    bury_all(stack, [died(1)])
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("DELETE FROM embedq.dead_letter_text")
    assert "its text is gone" in stack.command("dead-letters", "list")
    assert json.loads(stack.command("dead-letters", "list", "--json"))["has_text"] is False
    said = stack.command("dead-letters", "replay", code=1)
    assert "its text is gone: it was kept for dead_letter_text_days" in said
    assert letter_ids(stack) == ["1"]


def test_a_role_that_sees_letters_and_no_texts(stack: Stack) -> None:
    """With the rights that schema.sql and docs/sql.md name, and not one more."""
    bury_all(stack, [died(1)])
    with psycopg.connect(stack.database_url, autocommit=True) as admin:
        role = sql.Identifier(f"support_of_{admin.info.dbname}")
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        try:
            for grant in (
                "GRANT USAGE ON SCHEMA embedq TO {}",
                "GRANT SELECT ON embedq.dead_letter TO {}",
                "GRANT SELECT (number) ON embedq.dead_letter_text TO {}",
            ):
                admin.execute(sql.SQL(grant).format(role))
            url = f"{stack.database_url}{'&' if '?' in stack.database_url else '?'}options="
            stack.environment["EMBEDQ_DATABASE_URL"] = f"{url}-crole%3Dsupport_of_{admin.info.dbname}"
            assert "item '1': row 23514" in stack.command("dead-letters", "list")
            for refused in ("replay", "drop"):
                said = stack.command("dead-letters", refused, *(["--yes"] * (refused == "drop")), code=1)
                assert "permission denied" in said
            with (
                psycopg.connect(stack.environment["EMBEDQ_DATABASE_URL"]) as support,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                support.execute("SELECT payload FROM embedq.dead_letter_text")
        finally:
            admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
            admin.execute(sql.SQL("DROP ROLE {}").format(role))
    assert letter_ids(stack) == ["1"]


def test_a_look_at_how_many_there_are_is_short(stack: Stack) -> None:
    """Every worker looks again and again: of each collection it reads so many entries and no more."""
    bury_all(stack, [died(number) for number in range(1_100)])
    bury_all(stack, [died(1, collection="shop"), died(2, collection=None)])

    async def count() -> dict[str | None, int]:
        database = Database(stack.database_url, connections=1)
        await database.open()
        try:
            return await count_some_dead_letters(database)
        finally:
            await database.close()

    assert asyncio.run(count()) == {"docs": COUNTED, "shop": 1, None: 1}
    assert COUNTED == 1_000, "docs/metrics.md names it"
