"""``embedq dead-letters``: what died is listed, comes back as it was, and is dropped for good."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from psycopg import sql

from embedq.messages import job_message
from embedq_worker.store.dead_letters.listing import COUNTED, count_some_dead_letters
from embedq_worker.store.postgres.database import Database
from tests.support.letters import bury_all, died, letter_ids, queued, stored_versions
from tests.support.stack import Stack, wait_until

CANARY = "canary-sentence-that-no-log-may-hold"


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
    assert stored_versions(stack) == {str(n): (n, {"n": n}) for n in range(4)} | {"4": (9, {})}


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
    assert stored_versions(stack) == {"1": (7_000_000, {}), "2": (5, {})}
    assert letter_ids(stack) == [None, "3", "4"]


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
