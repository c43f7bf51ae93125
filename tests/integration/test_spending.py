"""Real workers write down what their calls cost: what the service has counted, and nothing else."""

from __future__ import annotations

from decimal import Decimal

from embedq.testing.faults import BadText, Reset, Status
from tests.support.stack import MODEL, Stack

PRICE = Decimal("0.02")
"""Dollars a million tokens, as the catalogue has it."""


def test_the_sums_are_what_the_service_counted(stack: Stack) -> None:
    """Through 429s, cut connections, a text that is refused, queries, and a worker that is stopped."""
    stack.create("docs")
    stack.create("other")
    stack.api.inject(BadText(), marker="poison")
    stack.api.inject(Status(429), next_calls=2)
    stack.api.inject(Reset(), next_calls=1)
    with stack.worker(processes=2) as worker:
        for source, collection in (("shop", "docs"), (None, "docs"), ("shop", "other")):
            with stack.producer(source=source) as producer:
                texts = [f"text {number} of {source} in {collection}" for number in range(100)]
                items = [{"id": text, "text": text} for text in texts]
                producer.enqueue_many("docs" if collection == "docs" else "other", items)
        with stack.producer() as producer:
            producer.enqueue("docs", id="bad", text="poison")
            producer.embed_query("docs", "a question", timeout=20)
        stack.wait_until_done()
        worker.stop()

    answered = [call for call in stack.api.calls() if call.status == 200]
    [(calls, texts, tokens, cost, estimated)] = stack.sql(
        "SELECT sum(calls), sum(texts), sum(tokens), sum(cost), sum(estimated_tokens + unpriced_tokens)"
        " FROM embedq.usage"
    )
    assert (calls, texts, estimated) == (len(answered), 301, 0)
    assert tokens == sum(call.tokens for call in answered)
    assert cost == tokens * PRICE / 10**6
    assert len(answered) < len(stack.api.calls())
    by_account = "SELECT model, collection, source, purpose, texts FROM embedq.daily_usage ORDER BY 2, 3, 4"
    assert stack.sql(by_account) == [
        (MODEL, "docs", "shop", "documents", 100),
        (MODEL, "docs", None, "documents", 100),
        (MODEL, "docs", None, "queries", 1),
        (MODEL, "other", "shop", "documents", 100),
    ]
