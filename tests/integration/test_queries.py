"""Queries are answered however many there are, and an answer that is lost is told of."""

from __future__ import annotations

import base64
import json
import logging
import uuid

import pytest
import redis.asyncio as redis

from embedq.contract import QueryReply
from embedq_worker.engine.queries import Queries
from embedq_worker.engine.work import Summary
from tests.support.stack import Stack


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
