"""`embedq collection migrate`: another model for a collection that is written and searched meanwhile."""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter

import numpy as np

from embedq.testing import faults, vector_of
from tests.integration.test_long_texts import LONG
from tests.support.moving import SALT, Moving, give_two_models
from tests.support.stack import DIMENSIONS, MODEL, Stack

NEW = "text-embedding-3-large"
TO_NEW = ("collection", "migrate", "docs", "--model", NEW, "--dimensions", str(DIMENSIONS))


def migrate(stack: Stack, *options: str, code: int = 0) -> str:
    """The command on the collection."""
    return stack.command("collection", "migrate", "docs", *options, code=code)


def test_switch_and_undo_under_load(stack: Stack) -> None:
    """No statement sees a mixed result, no write is lost, and going back works."""
    give_two_models(stack.api, MODEL, NEW)
    stack.create("docs")
    moving = Moving(stack.database_url, stack.broker_url, DIMENSIONS)
    moving.load(500)
    with stack.worker(processes=2):
        stack.wait_until_done()
        stack.command("index", "build", "docs")
        with moving.going_on(50) as watch:
            stack.command(*TO_NEW)
            assert set(watch.answers) == {1}
            for step, generation in (("--switch", 2), ("--undo", 1), ("--switch", 2)):
                migrate(stack, step)
                moving.wait_for_more(generation)
        stack.wait_until_done()
        assert watch.mixed == []
        assert watch.errors == []
        assert watch.refused > 50
        migrate(stack)
        moving.check_rows("embedding", SALT)
        moving.check_rows("embedding_g1", "")
        billed = stack.api.billings(list(moving.expected.values()))
        again = [
            (text, [(call.model, call.at) for call in calls])
            for text, calls in zip(moving.expected.values(), billed, strict=True)
            if max(Counter(call.model for call in calls).values()) > 1
        ]
        assert again == []
        migrate(stack, "--finish")
        assert stack.sql("SELECT model, generation FROM embedq.collection") == [(NEW, 2)]


def test_without_load(stack: Stack) -> None:
    """What it would take, a text that the new model refuses, a comparison, a switch, the end."""
    give_two_models(stack.api, MODEL, NEW)
    stack.create("docs")
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue_many("docs", ({"id": str(n), "text": f"text {n}"} for n in range(30)))
        producer.enqueue("docs", id="bad", text="a text that the new model refuses")
        stack.wait_until_done()

        said = stack.command(*TO_NEW, "--dry-run")
        assert "31 rows" in said
        assert re.search(r"about \$0\.0000\d+ at the provider's list price", said)
        assert stack.sql("SELECT count(*) FROM embedq.shadow") == [(0,)]

        stack.api.inject(faults.BadText(), model=NEW, marker="refuses")
        said = stack.command(*TO_NEW, code=1)
        assert "1 row of docs has no vector of text-embedding-3-large still" in said
        found = stack.sql("SELECT item_id, class, source FROM embedq.dead_letter")
        assert found == [("bad", "successor", "embedq collection migrate")]
        assert "have no vector" in migrate(stack, "--switch", code=1)

        producer.delete("docs", ["bad"])
        stack.wait_until_done()
        assert "every row has its vector" in migrate(stack)
        assert "overlap@10: 0." in migrate(stack, "--status")
        migrate(stack, "--switch")
        hits = stack.command("search", "docs", SALT + "nothing", "-k", "3").splitlines()
        assert len(hits) == 3
        assert "vectors of text-embedding-3-small are gone" in migrate(stack, "--finish")
        assert "does not move" in migrate(stack, "--status")
        producer.enqueue("docs", id="1", text="changed")
        stack.wait_until_done()
        migrate(stack, "--undo", code=1)
    assert "Traceback" not in worker.output
    rows = stack.sql("SELECT content, embedding::real[] FROM docs")
    assert len(rows) == 30
    for text, vector in rows:
        assert np.allclose(vector, vector_of(SALT + text, DIMENSIONS), atol=1e-6)


def test_model_that_is_down_holds_nobody_up(stack: Stack) -> None:
    """Rows are stored without its vectors, at once; when it is back they are filled."""
    give_two_models(stack.api, MODEL, NEW)
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="0", text="first")
        stack.wait_until_done()
        stack.command(*TO_NEW)
        stack.api.configure(model=NEW, latency=8.0)
        producer.enqueue_many("docs", ({"id": str(n), "text": f"text {n}"} for n in range(40)))
        stack.wait_until_done(7)
        assert stack.sql("SELECT count(*) FROM docs WHERE embedding_g2 IS NULL") == [(40,)]
        migrate(stack, "--abandon")
        assert stack.stored("docs") == {str(n): f"text {n}" for n in range(40)}


def test_replayed_letter_of_a_fill_leaves_the_item_alone(stack: Stack) -> None:
    """A chunk that the new model refuses: the letter is replayed, and the document stays as it is."""
    give_two_models(stack.api, MODEL, NEW)
    stack.create("docs", "--on-too-long", "chunk", "--chunk-tokens", "80", "--chunk-overlap", "0")
    rows = "SELECT id, chunk, content, metadata, version FROM docs ORDER BY id, chunk"
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="long", text="POISON. " + LONG, metadata={"kept": True})
        stack.wait_until_done()
        before = stack.sql(rows)
        assert len(before) > 1
        stack.api.inject(faults.BadText(), model=NEW, marker="POISON")
        stack.command(*TO_NEW, code=1)
        asked = sum(call.model == NEW for call in stack.api.calls())
        assert stack.sql("SELECT item_id, class, attempts FROM embedq.dead_letter") == [
            ("long", "successor", 1)
        ]
        stack.command("dead-letters", "replay", "docs")
        stack.wait_until_done()
        assert stack.sql(rows) == before
        assert sum(call.model == NEW for call in stack.api.calls()) > asked
        assert stack.sql("SELECT item_id, class FROM embedq.dead_letter") == [("long", "successor")]
        producer.enqueue("docs", id="long", text=LONG)
        stack.wait_until_done()
        migrate(stack)
        stack.command("dead-letters", "replay", "docs")
        stack.wait_until_done()
        assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(0,)]


def test_switch_to_a_slower_model_while_writes_go_on(stack: Stack) -> None:
    """It is waited for, so that rows are whole as they are stored, and there is a moment to switch at."""
    give_two_models(stack.api, MODEL, NEW)
    stack.create("docs")
    over = threading.Event()

    def write() -> None:
        with stack.producer() as producer:
            for number in itertools.count():
                producer.enqueue("docs", id=str(number % 50), text=f"live {number}")
                if over.wait(0.04):
                    return

    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", ({"id": str(n), "text": f"text {n}"} for n in range(50)))
        stack.wait_until_done()
        stack.api.configure(model=NEW, latency=1.2)
        writing = threading.Thread(target=write)
        writing.start()
        try:
            migrate(stack, *TO_NEW[3:], "--rate", "1000")
            migrate(stack, "--switch")
        finally:
            over.set()
            writing.join()
    assert stack.sql("SELECT model FROM embedq.collection") == [(NEW,)]
