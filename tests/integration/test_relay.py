"""The relay, round by round: what is sent, marked, sent again, and what is not."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis
from psycopg import sql
from redis.exceptions import RedisError

from embedq_sql import statement
from embedq_worker.engine.outbox.relay import Relay
from embedq_worker.engine.outbox.relaying import code_of
from embedq_worker.limiter.keys import model_key
from embedq_worker.metrics.outbox import EPOCHS
from embedq_worker.store.outbox.pending import outbox_pending
from embedq_worker.store.outbox.unsettled import COUNTED, LONG_AGO, Claimed, count_some_unsent
from embedq_worker.store.postgres.connections import connect
from tests.support.relayed import MODEL, Outbox, outbox


async def test_rows_become_full_messages(database_url: str, broker_url: str) -> None:
    """In order, of one source each, with the header and the time of the oldest; rows stay, marked."""
    async with outbox(database_url, broker_url) as box:
        began = time.time()
        box.put_many(600)
        box.put("gone", None, 7, source="shop", metadata='{"lang": "en"}')
        box.put("late", "for later", 8, is_bulk=True)
        assert await box.relay.go_round() == 602
        messages = box.queued()
        assert [len(job["items"]) for _, job in messages] == [256, 256, 88, 1]
        assert [item["id"] for item in box.items()[:600]] == [str(number) for number in range(1, 601)]
        headers, last = messages[-1]
        assert last["source"] == "shop"
        assert last["items"] == [
            {"id": "gone", "version": 7, "metadata": {"lang": "en"}, "deleted": True},
        ]
        assert headers["embedq_outbox"] is True
        assert began - 1 < headers["embedq_enqueued_at"] < time.time() + 1
        assert box.items("embedq.docs.bulk") == [{"id": "late", "text": "for later", "version": 8}]
        assert {epoch for *_, epoch in box.rows()} == {box.epoch()}
        assert await box.relay.go_round() == 0
        assert len(box.queued()) == 4


async def test_an_emptied_redis_is_sent_everything_again(
    database_url: str, broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A new epoch each time, said aloud; but the first look at a new database is no alarm."""
    async with outbox(database_url, broker_url) as box:
        emptied = EPOCHS._value.get()
        box.put("1")
        await box.relay.go_round()
        first = box.epoch()
        assert first > 1
        assert EPOCHS._value.get() == emptied
        for said in (None, "not a number"):
            await box.client.flushall()
            if said is not None:
                await box.client.set("embedq:epoch", said)
            assert await box.another().go_round() in (0, 1)
            await box.relay.go_round()
            assert [item["id"] for item in box.items()] == ["1"]
        assert box.rows() == [("1", 1, first + 2)]
        assert await box.client.get("embedq:epoch") == str(first + 2).encode()
        assert EPOCHS._value.get() == emptied + 2
        alarms = [record for record in caplog.records if "epoch" in record.getMessage()]
        assert [record.levelno for record in alarms] == [logging.WARNING] * 2


async def test_an_older_copy_of_redis_begins_a_later_epoch(database_url: str, broker_url: str) -> None:
    """A higher one too, as of another database: no epoch is used twice."""
    async with outbox(database_url, broker_url) as box:
        box.put("1")
        await box.relay.go_round()
        await box.client.set("embedq:epoch", box.epoch() + 10)
        before = box.epoch()
        assert await box.another().go_round() == 0  # it sees an epoch at which the row was sent
        assert await box.relay.go_round() == 1
        assert box.epoch() == before + 11


async def test_relays_share_the_rows(database_url: str, broker_url: str) -> None:
    """Three at once send each row once, and wait for none of them."""
    async with outbox(database_url, broker_url) as box:
        await box.relay.go_round()
        box.put_many(5_000)
        relays = [box.relay, box.another(), box.another()]

        async def drain(relay: Relay) -> int:
            done = 0
            while sent := await relay.go_round():
                done += sent
            return done

        shares = await asyncio.gather(*map(drain, relays))
        while await box.relay.go_round():
            pass
        assert set(Counter(item["id"] for item in box.items()).values()) == {1}
        assert len(box.items()) == 5_000
        assert all(shares), shares


async def test_a_relay_that_dies_after_sending_sends_twice(
    database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows stay unsent, and are free at once."""
    async with outbox(database_url, broker_url) as box:
        box.put("1")

        async def die(*_: object) -> None:
            raise asyncio.CancelledError

        with monkeypatch.context() as patch:
            patch.setattr(Claimed, "mark_sent", die)
            with pytest.raises(asyncio.CancelledError):
                await box.relay.go_round()
        assert box.rows() == [("1", 1, 0)]
        assert await box.another().go_round() == 1
        assert [item["id"] for item in box.items()] == ["1", "1"]


async def test_what_breaks_a_rule_becomes_a_dead_letter(database_url: str, broker_url: str) -> None:
    """In place of its row, with the rule; what is beside it is sent."""
    async with outbox(database_url, broker_url) as box:
        box.put("blank", "  ")
        box.put("list", metadata="[1]")
        box.put("deep", metadata="[" * 40 + "]" * 40)
        box.put("large", "x" * (1 << 20), metadata='{"is": "large"}')
        box.put("larger", "y" * ((1 << 20) + 1))
        box.put("swelling", metadata=json.dumps({"is": "z" * (1 << 21)}))
        box.put("i" * 600)
        box.put("negative", version=-1)
        box.put("good")
        await box.relay.go_round()
        while await box.relay.go_round():
            pass
        assert [item["id"] for item in box.items()] == ["good"]
        assert [item_id for item_id, *_ in box.rows()] == ["good"]
        letters = box.sql(
            "SELECT item_id, code, class, collection, lane, payload::jsonb FROM embedq.dead_letter "
            "JOIN embedq.dead_letter_text USING (number)"
        )
        assert {item_id: code for item_id, code, *_ in letters} == {
            "blank": "text_empty",
            "list": "metadata_type",
            "deep": "metadata_type",
            "large": "item_too_large",
            "larger": "item_too_large",
            "swelling": "item_too_large",
            "i" * 512: "id_too_long",
            "negative": "version_range",
        }
        assert {tuple(rest[1:4]) for _, *rest in letters} == {("text", "docs", "live")}
        kept = {item_id: payload for item_id, *_, payload in letters}
        assert len(kept["large"]["text"]) == 1 << 20
        assert kept["larger"] == {"id": "larger", "version": 1}  # too large for a message, and for us
        assert kept["swelling"] == {"id": "swelling", "version": 1, "text": "a text"}


async def test_a_redis_without_memory_takes_nothing_by_halves(database_url: str, broker_url: str) -> None:
    """All messages of a transaction or none, or a part would come again and again; no text in the reason."""
    async with outbox(database_url, broker_url) as box:
        await box.relay.go_round()
        box.put_many(600)
        await box.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(RedisError) as refused:
                await box.relay.go_round()
        finally:
            await box.client.config_set("maxmemory", 0)
        assert code_of(refused.value) == "OutOfMemoryError"
        assert box.queued() == []
        assert {epoch for *_, epoch in box.rows()} == {0}
        assert await box.relay.go_round() == 600


async def test_a_full_queue_leaves_rows_where_they_are(database_url: str, broker_url: str) -> None:
    """Up to the bound; the other lane goes on."""
    async with outbox(database_url, broker_url, outbox_queue=4) as box:
        box.put_many(3_000)
        box.put("late", is_bulk=True)
        for _ in range(4):
            await box.relay.go_round()
        assert len(box.queued()) == 4
        assert len(box.queued("embedq.docs.bulk")) == 1
        assert sum(not epoch for *_, epoch in box.rows()) == 3_000 - 1_024


async def test_what_was_sent_long_ago_is_sent_again(database_url: str, broker_url: str) -> None:
    """But not while a message as old waits in its queue, nor while its model is paused."""
    async with outbox(database_url, broker_url, outbox_resend=60) as box:
        box.put("1")
        await box.relay.go_round()
        box.sql("UPDATE embedq.outbox SET moved_at = moved_at - interval '70 s'")
        age_message(box.broker_url, 80)
        assert await box.another(outbox_resend=60).go_round() == 0
        await box.client.delete("embedq.docs")
        stem = model_key(MODEL.id, "")
        await box.client.hset(stem, mapping={"broken": "refused 401", "broken_at": "1", "pause_until": "1"})
        paused = await box.another(outbox_resend=60).go_round()
        await box.client.delete(stem)
        assert await box.another(outbox_resend=60).go_round() == 1
        assert await box.another(outbox_resend=60).go_round() == 0
        assert len(box.queued()) == 1
        assert paused == 0


def age_message(broker_url: str, seconds: float) -> None:
    """Let the only message of the queue have been enqueued so long ago."""
    with redis.Redis.from_url(broker_url) as client:
        message = json.loads(client.lpop("embedq.docs"))
        message["headers"]["embedq_enqueued_at"] = time.time() - seconds
        client.lpush("embedq.docs", json.dumps(message))


async def test_what_waits_is_counted_up_to_a_bound(database_url: str, broker_url: str) -> None:
    """For status all rows, for the metrics those that are not sent, by lane."""
    async with outbox(database_url, broker_url) as box:
        box.put_many(COUNTED + 5)
        await box.relay.go_round()
        assert await count_some_unsent(box.database) == [("docs", False, 0)]
        box.put_many(COUNTED + 5, bulk=True)
        box.put("1")
        assert await count_some_unsent(box.database) == [("docs", False, 1), ("docs", True, COUNTED)]
        with connect(database_url) as connection:
            pending = outbox_pending(connection)["docs"]
        assert pending.rows == COUNTED
        assert 0 < (pending.oldest or 0) < 60


async def test_a_claim_costs_the_same_however_much_waits(database_url: str, broker_url: str) -> None:
    """By statistics of an outbox that was nearly empty, too: no row is read that is not sent."""
    async with outbox(database_url, broker_url) as box:
        box.put("1")
        box.sql("ANALYZE embedq.outbox")
        box.put_many(20_000)
        wanted: dict[str, Any] = {
            "collection_id": box.collection.id,
            "is_bulk": False,
            "epoch": 9,
            "age": None,
        }
        wanted |= {"rows": 100, "bytes": 1 << 20, "largest": 1 << 20}
        assert rows_read(box, "claim_outbox", wanted) == 100
        wanted |= {"since": LONG_AGO, "after": 0, "epoch": 0}
        assert rows_read(box, "sweep_outbox", wanted) == 100
        settled = {"ids": ["7"], "versions": [1], "hashes": [b"\xff"], "collection_id": box.collection.id}
        assert rows_read(box, "settle_outbox", settled) <= 1
        buried = {"collections": ["docs"], "ids": ["8"], "versions": [1]}
        assert rows_read(box, "settle_buried", buried) <= 1


def rows_read(box: Outbox, name: str, parameters: dict[str, Any]) -> int:
    """The most rows that a scan of the outbox gives, of all in the plan of a statement, which is run."""
    with psycopg.connect(box.database_url) as connection:
        if not name.startswith("settle"):
            connection.execute(statement("plan_by_index"))
        explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + sql.SQL(statement(name))
        found = connection.execute(explain, parameters).fetchone()
    assert found is not None
    return max(scanned(found[0][0]["Plan"]))


def scanned(node: dict[str, Any]) -> Iterator[int]:
    """Rows that the scans of the outbox below a node gave, and those that they threw away."""
    if node.get("Relation Name") == "outbox" and "Scan" in node["Node Type"]:
        yield int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
    for below in node.get("Plans", ()):
        yield from scanned(below)
