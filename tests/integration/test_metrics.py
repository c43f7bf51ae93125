"""The metrics of real workers: exact for a known load, there while servers are away, of what exists alone."""

from __future__ import annotations

from collections import Counter

import pytest

from embedq.testing import faults
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.process import free_port
from embedq_worker.embedded.valkey import Valkey
from tests.support.metrics import Page, scrape
from tests.support.stack import MODEL, Stack, wait_until

PRICE = 0.02e-6
"""US dollars a token of the model, as the catalogue has it."""
OUTCOMES = {200: "answered", 429: "throttled", 500: "failed", 400: "bad_input"}


@pytest.fixture
def port(stack: Stack) -> int:
    """Where the worker of the stack shows its metrics."""
    port = free_port()
    stack.environment["EMBEDQ_METRICS_PORT"] = str(port)
    return port


def test_the_numbers_are_those_of_the_load(stack: Stack, port: int) -> None:
    """As the fake API counts the calls, and the tables the items."""
    stack.configure(f'[models."{MODEL}"]\nmax_inputs = 4\n[worker]\nvector_cache_days = 1\n')
    stack.create("docs")
    stack.api.inject(faults.BadText(), marker="poison")
    stack.api.inject(faults.Status(429), next_calls=1)
    stack.api.inject(faults.Status(500), next_calls=1)
    items = [{"id": str(number), "text": f"text {number}"} for number in range(10)]
    items += [{"id": "copy", "text": "text 0"}, {"id": "bad", "text": "poison"}]
    with stack.producer() as producer, stack.worker():
        producer.enqueue_many("docs", items)
        stack.wait_until_done()
        producer.enqueue_many("docs", items[:3])
        producer.enqueue_many("docs", [{"id": "again", "text": "text 1"}], lane="bulk")
        stack.wait_until_done()
        producer.delete("docs", ["9"])
        assert producer.embed_query("docs", "how?")
        stack.wait_until_done()
        page = scrape(port)
    _check_items(page)
    _check_calls(page, stack)
    _check_cache(page)
    assert page.value("embedq_dead_letters_total", collection="docs", cause="text") == 1
    assert page.value("embedq_fleet_dead_letters", collection="docs") == 1
    assert page.value("embedq_fleet_dead_letters", collection="") == 0
    assert page.value("embedq_rows_written_total", collection="docs") == 12
    assert page.total("embedq_write_seconds_count") >= 4
    assert page.value("embedq_ready") == 1
    assert page.value("embedq_fleet_workers") == 1
    assert page.value("embedq_fleet_collection_info", collection="docs", model=MODEL) == 1
    assert page.value("embedq_fleet_limit", model=MODEL) == 16


def _check_items(page: Page) -> None:
    live = {"collection": "docs", "lane": "live"}
    done = {
        outcome: page.value("embedq_items_total", **live, outcome=outcome)
        for outcome in ("stored", "unchanged", "deleted", "superseded", "dead", "withdrawn")
    }
    assert done == {"stored": 11, "unchanged": 3, "deleted": 1, "superseded": 0, "dead": 1, "withdrawn": 0}
    assert page.value("embedq_items_total", collection="docs", lane="bulk", outcome="stored") == 1
    assert page.value("embedq_queries_total", collection="docs", outcome="answered") == 1
    for lane, messages in {"live": 3, "bulk": 1, "query": 1}.items():
        where = {"collection": "docs", "lane": lane}
        assert page.value("embedq_messages_total", **where) == messages
        assert page.value("embedq_lag_seconds_count", **where) == messages
        assert page.value("embedq_in_hand_messages", **where) == 0
        assert page.value("embedq_fleet_queued_messages", **where) == 0
        assert page.value("embedq_fleet_oldest_seconds", **where) == 0


def _check_calls(page: Page, stack: Stack) -> None:
    calls = stack.api.calls()
    ended = Counter(OUTCOMES[call.status or 0] for call in calls)
    assert ended["throttled"] == ended["failed"] == 1
    for outcome in ("answered", "throttled", "failed", "refused", "bad_input", "dropped"):
        assert page.value("embedq_calls_total", model=MODEL, outcome=outcome) == ended[outcome]
    assert page.value("embedq_call_seconds_count", model=MODEL) == len(calls)
    assert page.value("embedq_calls_in_flight", model=MODEL) == 0
    assert page.value("embedq_batch_texts_sum", model=MODEL) == sum(call.texts for call in calls)
    assert page.value("embedq_batch_fill_ratio_count", model=MODEL) == len(calls)
    first = page.total("embedq_wait_seconds_count", model=MODEL)
    assert page.value("embedq_retries_total", model=MODEL) == len(calls) - first >= 2
    tokens = sum(call.tokens for call in calls if call.status == 200)
    assert page.value("embedq_tokens_total", model=MODEL, collection="docs") == tokens
    cost = page.value("embedq_cost_dollars_total", model=MODEL, collection="docs")
    assert cost == pytest.approx(tokens * PRICE)


def _check_cache(page: Page) -> None:
    """Ten texts and the bad one are asked for, the copy with one of them, one comes back later."""
    found = {
        result: page.value("embedq_cache_texts_total", model=MODEL, result=result)
        for result in ("hit", "miss", "joined")
    }
    assert found == {"hit": 1, "miss": 11, "joined": 1}


def test_a_page_comes_while_redis_and_postgres_are_away(
    stack: Stack, port: int, valkey_server: Valkey, postgres_server: Postgres
) -> None:
    """It says so, and what was counted."""
    stack.create("docs")
    with stack.producer() as producer, stack.worker():
        producer.enqueue("docs", id="1", text="one")
        stack.wait_until_done()
        before = scrape(port)
        assert before.value("embedq_outage", server="redis") == 0
        assert before.value("embedq_outage", server="postgres") == 0
        valkey_server.stop()
        postgres_server.stop()
        try:
            wait_until(lambda: scrape(port).total("embedq_outage") == 2, 20)
            page = scrape(port)
        finally:
            postgres_server.start()
            valkey_server.start()
        assert page.value("embedq_ready") == 0
        assert page.value("embedq_messages_total", collection="docs", lane="live") == 1
        wait_until(lambda: scrape(port).total("embedq_outage") == 0, 20)


def test_the_fleet_is_seen_as_it_stands(stack: Stack, port: int) -> None:
    """Queues that nobody serves here, why a model is paused, and nothing of a collection that was dropped."""
    stack.create("docs")
    stack.create("gone")
    stack.api.configure(api_key="sk-right")
    with stack.producer() as producer, stack.worker("--lanes", "live") as worker:
        producer.enqueue("gone", id="1", text="one")
        producer.enqueue_many("docs", [{"id": "2", "text": "two"}], lane="bulk")
        stack.broker.lpush("embedq.docs.query", "a message without a header")
        stack.broker.set("embedq.gone.bulk", "no queue")
        wait_until(lambda: "is paused for all workers" in worker.output, 20)
        page = scrape(port)
        assert page.value("embedq_fleet_queued_messages", collection="docs", lane="bulk") == 1
        assert 0 < (page.value("embedq_fleet_oldest_seconds", collection="docs", lane="bulk") or 0) < 60
        assert page.value("embedq_fleet_oldest_seconds", collection="docs", lane="query") is None
        assert page.value("embedq_fleet_queued_messages", collection="gone", lane="bulk") is None
        assert page.value("embedq_in_hand_messages", collection="gone", lane="live") == 1
        assert page.value("embedq_fleet_paused", model=MODEL, reason="key") == 1
        assert page.value("embedq_fleet_suspects") == 0
        stack.broker.delete("embedq.gone.bulk")
        stack.sql(
            "INSERT INTO embedq.dead_letter (collection, class, code, attempts)"
            " VALUES ('gone', 'text', 'x', 1) RETURNING number"
        )
        stack.command("collection", "drop", "gone", "--purge", "--yes")
        stack.broker.delete("embedq.docs.query")
        wait_until(lambda: stack.broker.hlen("embedq:unacked") == 0, 20)
        # Also its info, which says which collections there are.
        wait_until(lambda: ("collection", "gone") not in scrape(port).labels(), 20)
        assert scrape(port).value("embedq_fleet_dead_letters", collection="") == 1
