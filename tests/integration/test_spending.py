"""Real workers write down what their calls cost: what the service has counted, and nothing else."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import psycopg
import pytest

from embedq.errors import QueryFailed
from embedq.testing.faults import BadText, Reset, Status
from embedq_worker.embedded.process import free_port
from embedq_worker.engine.money.usage_keeper import REPORT_EVERY
from tests.support.metrics import Page, scrape
from tests.support.stack import MODEL, Stack, wait_until

PRICE = Decimal("0.02")
"""Dollars a million tokens, as the catalogue has it."""
BUDGET = 2_000
"""Tokens a day: a small part of what these texts take."""
TEXTS = [{"id": str(number), "text": f"text number {number} of some words " * 3} for number in range(400)]


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


def called_for(stack: Stack) -> int:
    """Tokens of the calls that were answered."""
    return sum(call.tokens for call in stack.api.calls() if call.status == 200)


def reported(stack: Stack) -> int:
    """Tokens of the only budget."""
    [listed] = json.loads(stack.command("budget", "list", "--json"))
    return int(listed["tokens"])


def _check_metrics(page: Page, spent: int) -> None:
    """In tokens as in dollars, by collection and by model."""
    docs = {"scope": "collection", "name": "docs"}
    assert page.value("embedq_fleet_spent_tokens", **docs) == spent
    assert page.value("embedq_fleet_budget_tokens", **docs) == BUDGET
    assert page.value("embedq_fleet_budget_dollars", **docs) is None
    assert page.value("embedq_fleet_budget_spent", **docs) == 1
    assert (page.value("embedq_fleet_spent_tokens", scope="model", name=MODEL) or 0) >= spent


def test_a_budget_holds_for_the_fleet(stack: Stack) -> None:
    """Two processes stop near it, drop nothing, go on with another collection, and at midnight."""
    stack.configure(f'[models."{MODEL}"]\nmax_inputs = 8\nmax_concurrency = 4\n')
    stack.create("docs")
    stack.create("free")
    stack.api.configure(latency=0.1)
    port = stack.environment["EMBEDQ_METRICS_PORT"] = str(free_port())
    said = stack.command("budget", "set", "--collection", "docs", "--tokens", str(BUDGET))
    assert f"0 of {BUDGET:,} tokens" in said
    with stack.worker(processes=2) as worker, stack.producer() as producer:
        for start in range(0, len(TEXTS), 50):
            producer.enqueue_many("docs", TEXTS[start : start + 50])
        wait_until(lambda: worker.output.count("the budget of collection docs") == 2, 20)
        stack.api.wait_until_idle(timeout=10)
        # A call may still be about to be sent: until all that was answered is on the books.
        wait_until(lambda: reported(stack) == called_for(stack), 20)
        calls = [call for call in stack.api.calls() if call.status == 200]
        before = called_for(stack)
        # About a second of the fleet's calls, and those in flight: four at 100 ms.
        per_call = max(call.tokens for call in calls)
        assert BUDGET <= before <= BUDGET + (4 * 10 * REPORT_EVERY + 4) * per_call
        with pytest.raises(QueryFailed, match="embedq budget set --collection docs") as refused:
            producer.embed_query("docs", "a question", timeout=10)
        assert refused.value.code == "budget"
        producer.enqueue_many("free", TEXTS[:20])
        wait_until(lambda: len(stack.stored("free")) == 20, 20)
        assert stack.pending() > 0
        [listed] = json.loads(stack.command("budget", "list", "--json"))
        assert (listed["is_spent"], listed["tokens"], listed["budget_tokens"]) == (True, before, BUDGET)
        assert len(stack.stored("docs")) < len(TEXTS)
        _check_metrics(scrape(int(port)), before)
        with psycopg.connect(stack.database_url) as connection:  # midnight
            connection.execute("UPDATE embedq.usage SET day = day - 1")
        wait_until(lambda: worker.output.count("there is money for collection docs again") >= 2, 20)
        stack.command("budget", "set", "--collection", "docs", "--tokens", str(100 * BUDGET))
        stack.wait_until_done()
    assert len(stack.stored("docs")) == len(TEXTS)
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(0,)]
    assert stack.api.stats().billed_again <= 20  # those of both collections


def test_what_a_dead_worker_held_goes_on_with_the_money(stack: Stack) -> None:
    """It is not left alone for a minute, as it would be for a paused model."""
    stack.configure("[worker]\nmessage_lease = 1.0\n")
    stack.create("docs")
    stack.command("budget", "set", "--collection", "docs", "--tokens", "1")
    with stack.producer() as producer:
        with stack.worker() as worker:
            producer.enqueue("docs", id="first", text="spends it")
            wait_until(lambda: "the budget of collection docs" in worker.output, 20)
            producer.enqueue_many("docs", TEXTS[:20])
            wait_until(lambda: not stack.broker.llen("embedq.docs"), 10)
            wait_until(lambda: stack.sql("SELECT tokens FROM embedq.usage") != [], 10)
            worker.kill()
        with stack.worker() as worker:
            wait_until(lambda: "are taken over" in worker.output, 20)
            wait_until(lambda: stack.broker.hlen("embedq:alone") == 1, 10)
            wait_until(lambda: stack.broker.hlen("embedq:alone") == 0, 20)  # they rest now
            stack.command("budget", "set", "--collection", "docs", "--tokens", "1000000")
            stack.wait_until_done(10)
    assert len(stack.stored("docs")) == 21


def test_what_was_used_is_shown(stack: Stack) -> None:
    """By the commands, for people and for scripts; a name that nobody knows is no budget."""
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(
            "INSERT INTO embedq.usage VALUES"
            " ((now() AT TIME ZONE 'UTC')::date, 'm', 'docs', 'shop', 'documents', 2, 30, 4000, 10, 0, 1.25),"
            " ((now() AT TIME ZONE 'UTC')::date, 'n', 'docs', '', 'queries', 1, 1, 5, 0, 5, 0)"
        )
    page = stack.command("usage", "--by", "model")
    assert re.search(r"^m +2 +30 +4,000 +\$1.25$", page, re.MULTILINE)
    assert "unknown" in page
    assert "5 tokens are of models without a price" in page
    [first, second] = json.loads(stack.command("usage", "--by", "source", "--days", "1", "--json"))
    assert (first["key"], first["tokens"], first["cost"]) == ("shop", 4000, 1.25)
    assert (second["key"], second["cost"]) == (None, None)
    assert "there is no collection 'docs'" in stack.command(
        "budget", "set", "--collection", "docs", "--dollars", "1", code=1
    )
    assert "SPENT" in stack.command("budget", "set", "--model", MODEL, "--dollars", "0")
    assert "no budget any more" in stack.command("budget", "reset", "--model", MODEL)
    assert "has no budget" in stack.command("budget", "reset", "--model", MODEL, code=1)
    assert "there are no budgets" in stack.command("budget", "list")


def test_a_file_is_estimated(stack: Stack) -> None:
    """What workers then spend on it, to the token where the tokenizer is there; bad lines are left out."""
    stack.configure(f'[models."{MODEL}"]\nrequests_per_minute = 2\nmax_inputs = 10\n')
    stack.create("docs")
    stack.create("cut", "--on-too-long", "chunk", "--chunk-tokens", "64")
    items = [{"id": str(number), "text": f"text {number} of some words"} for number in range(60)]
    file = "\n".join(json.dumps(item) for item in items)
    found = json.loads(stack.command("estimate", "docs", "-", "--json", stdin=file))
    assert (found["items"], found["texts"], found["requests"]) == (60, 60, 6)
    assert found["seconds"] == 180
    assert found["rests_on"] == "requests_per_minute"
    assert found["dollars"] == pytest.approx(found["tokens"] * 0.02 / 1e6)
    stack.command("limits", "set", MODEL, "--requests-per-minute", "none")
    page = stack.command("estimate", "docs", "-", "--call-seconds", "2", stdin=file)
    assert "by max_concurrency (the limits of now)" in page
    odd = '{"id": "d", "deleted": true}\nno json\n{"id": "e", "text": ""}'
    page = stack.command("estimate", "docs", "-", stdin=odd, code=1)
    assert "0 items with a text, 1 deletes, 2 bad rows" in page
    long = json.dumps({"id": "l", "text": "some words in a sentence. " * 100})
    found = json.loads(stack.command("estimate", "cut", "-", "--json", stdin=long))
    assert (found["items"], found["texts"] > 5) == (1, True)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", items[:50])
        stack.wait_until_done()
    csv = "number,words\n" + "".join(f"{item['id']},{item['text']}\n" for item in items)
    columns = ("--format", "csv", "--id", "number", "--text", "words")
    found = json.loads(stack.command("estimate", "docs", "-", "--json", "--skip-stored", *columns, stdin=csv))
    assert (found["items"], found["unchanged"]) == (10, 50)
