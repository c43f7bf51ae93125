"""Queries are answered however many there are, and an answer that is lost is told of."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
import uuid
from datetime import UTC, datetime
from time import monotonic

import msgspec
import pytest
import redis.asyncio as redis

from embedq import AsyncProducer, QueryVector
from embedq.contract import Query, QueryReply, reply_key
from embedq.messages import query_message
from embedq.testing import FakeAPI, faults, vector_of
from embedq_worker.catalogue import Model
from embedq_worker.engine.queries import Queries, QueryKind
from embedq_worker.engine.summary import Summary
from embedq_worker.engine.work import Hold
from tests.support.asking import DIMENSIONS, ask, office
from tests.support.stack import Stack, wait_until

KIND = QueryKind(DIMENSIONS, 7)


def query(number: int) -> str:
    """A query as Celery writes it."""
    body = [[], {"v": 1, "collection": "docs", "text": f"question {number}"}, {}]
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": "embedq.query", "id": str(uuid.uuid4()), "lang": "py"},
            "properties": {"delivery_tag": str(number), "body_encoding": "base64", "delivery_info": {}},
        }
    )


def test_a_flood_of_queries_is_answered(stack: Stack) -> None:
    """More at once than a client has connections to Redis."""
    stack.create("docs")
    stack.api.configure(latency=0.3)
    with stack.worker():
        stack.broker.lpush("embedq.docs.query", *(query(number) for number in range(400)))
        stack.wait_until_done()
    assert len(stack.broker.keys("embedq:reply:*")) == 400


def test_an_answer_does_not_outlive_its_question(stack: Stack) -> None:
    """Both producers are answered; an answer that nobody fetches is gone soon after the question expired."""
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        vector = producer.embed_query("docs", "a question")
        assert (list(vector), vector.generation) == (vector_of("a question", len(vector)).tolist(), 1)
        assert asyncio.run(asked(stack.broker_url, "a question")) == vector
        message = query_message(Query(1, "docs", "left alone"), time.time(), expires(3))
        stack.broker.lpush("embedq.docs.query", message.payload)
        wait_until(lambda: bool(stack.broker.exists(reply_key(message.task_id))), 10)
        assert 1 < stack.broker.ttl(reply_key(message.task_id)) <= 5
        late = query_message(Query(1, "docs", "too late"), time.time(), expires(-1))
        stack.broker.lpush("embedq.docs.query", late.payload)
        stack.wait_until_done()
    assert stack.api.billed(["too late"]) == [0]


async def asked(broker_url: str, text: str) -> QueryVector:
    """A question of an application on asyncio."""
    async with AsyncProducer(broker_url) as producer:
        return await producer.embed_query("docs", text)


def expires(seconds: float) -> str:
    """So many seconds from now, as a message says it."""
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


async def test_an_answer_that_cannot_be_pushed_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """With the error's class, and nothing of what was asked; the query is finished."""
    caplog.set_level(logging.WARNING)
    finished: list[Summary] = []
    task_id = str(uuid.uuid4())
    async with redis.from_url("redis://127.0.0.1:1/0", retry=None) as client:
        queries = Queries(client, "")
        queries.reply(task_id, QueryReply(v=1, vector=[0.5]), finished.append)
        await queries.finish()
    [message] = caplog.messages
    assert message.startswith(f"the answer to query {task_id} could not be pushed to Redis (ConnectionError)")
    assert finished == [{"items": 1, "answered": 1}]


async def reply_to(task_id: str, client: redis.Redis) -> QueryReply:
    """Wait for the answer to a query."""
    found = await client.blpop(reply_key(task_id))
    assert found is not None
    return msgspec.json.decode(found[1], type=QueryReply)


async def test_a_query_whose_caller_has_given_up_is_not_called(broker_url: str, fake_api: FakeAPI) -> None:
    """It expires while another call has the only slot; the one behind it is answered."""
    fake_api.configure(dimensions=DIMENSIONS, latency=0.3)
    finished: list[Summary] = []
    late, good = str(uuid.uuid4()), str(uuid.uuid4())
    async with (
        office(broker_url, fake_api.base_url) as opened,
        redis.from_url(broker_url) as client,
        asyncio.timeout(20),
    ):
        dispatcher = opened.dispatcher(Model(id="m", dimensions=DIMENSIONS, max_concurrency=1))
        queries = Queries(client, "")
        ask(dispatcher, "first")
        await asyncio.to_thread(fake_api.wait_for, in_flight=1)
        for task_id, seconds in ((late, 0.1), (good, 10.0)):
            query = Query(v=1, collection="docs", text=f"question {seconds}")
            queries.ask(query, task_id, dispatcher, KIND, monotonic() + seconds, Hold(), finished.append)
        replies = [await reply_to(each, client) for each in (late, good)]
        await queries.finish()
    assert replies[0].error == "abandoned"
    assert len(replies[1].vector or ()) == DIMENSIONS
    assert replies[1].generation == 7
    assert [call.texts for call in fake_api.calls()] == [1, 1]
    assert finished == [{"items": 1, "refused": 1}, {"items": 1, "answered": 1}]


async def test_a_query_to_a_paused_model_is_answered_with_the_reason(
    broker_url: str, fake_api: FakeAPI
) -> None:
    """One that waits when the pause begins, and one that comes later: over Redis, at once."""
    fake_api.inject(faults.NoCredits())
    waiting, later = str(uuid.uuid4()), str(uuid.uuid4())
    async with (
        office(broker_url, fake_api.base_url) as opened,
        redis.from_url(broker_url) as client,
        asyncio.timeout(20),
    ):
        dispatcher = opened.dispatcher(Model(id="m", dimensions=DIMENSIONS))
        queries = Queries(client, "")
        for task_id in (waiting, later):
            asked_at = monotonic()
            query = Query(v=1, collection="docs", text="question")
            queries.ask(query, task_id, dispatcher, KIND, asked_at + 10, Hold(), lambda _: None)
            reply = await reply_to(task_id, client)
            assert monotonic() - asked_at < 1
            assert reply.error == "paused"
            assert "status 403" in (reply.explanation or "")
            assert "check the account's credits" in (reply.explanation or "")
    assert fake_api.stats().calls == 1
