"""Texts that are longer than their model takes, from the message to the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest

from embedq.errors import EmbedqError
from embedq.testing import vector_of
from embedq.testing.faults import BadText
from embedq_worker.catalogue import Model
from embedq_worker.engine.splitting.splitter import Chunker, Cutter
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import get_collection
from tests.support.stack import DIMENSIONS, Stack

SENTENCES = [f"Sentence number {number} says what the others do not say." for number in range(40)]
LONG, SHORT = " ".join(SENTENCES), SENTENCES[0]
MODEL = Model(id="short", dimensions=DIMENSIONS, max_tokens=100)


@pytest.fixture
def long_texts(stack: Stack) -> Stack:
    """An installation with a model that takes 100 tokens."""
    stack.configure(f'[models."short"]\ndimensions = {DIMENSIONS}\nmax_tokens = {MODEL.max_tokens}\n')
    stack.api.configure(dimensions=DIMENSIONS)
    return stack


def create(stack: Stack, *options: str) -> Collection:
    """A collection of that model."""
    stack.create("docs", *options, model="short")
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        return get_collection(connection, "docs")


def rows(stack: Stack, item_id: str = "1") -> list[tuple[int, str, int, dict[str, Any]]]:
    """Chunk, content, version and metadata of an id's rows."""
    return stack.sql(
        "SELECT chunk, content, version, metadata FROM docs WHERE id = %s ORDER BY chunk", (item_id,)
    )


def chunks(stack: Stack, item_id: str = "1") -> list[str]:
    """The contents, in order."""
    found = rows(stack, item_id)
    assert [row[0] for row in found] == list(range(len(found)))
    return [row[1] for row in found]


def test_a_document_grows_shrinks_and_goes(long_texts: Stack) -> None:
    """At each time its rows are the chunks of its text, no more and no fewer, each with its own vector."""
    stack = long_texts
    collection = create(
        stack,
        "--on-too-long",
        "chunk",
        "--chunk-tokens",
        "80",
        "--chunk-overlap",
        "20",
        "--versions",
        "given",
    )
    expected = Chunker(collection, MODEL).split
    assert len(expected(LONG)) > 10
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="2", text=SHORT, version=1)
        for version, text in enumerate([SHORT, LONG, " ".join(SENTENCES[:9]), LONG + LONG, SHORT], 1):
            producer.enqueue("docs", id="1", text=text, version=version, metadata={"v": version})
            stack.wait_until_done()
            assert chunks(stack) == expected(text)
            assert {row[2:] for row in [(*row[:3], str(row[3])) for row in rows(stack)]} == {
                (version, f"{{'v': {version}}}")
            }
            stack.stored("docs")  # every vector is its content's
            assert stack.sql("SELECT version, chunks, truncated FROM embedq.item WHERE id = '1'") == [
                (version, len(expected(text)), False)
            ]
        producer.enqueue("docs", id="1", text=LONG, version=9)
        producer.delete("docs", ["1"], version=10)
        stack.wait_until_done()
    assert (chunks(stack), chunks(stack, "2")) == ([], [SHORT])


def test_an_unchanged_document_and_a_refused_one(long_texts: Stack) -> None:
    """The first costs no call, and its version and metadata move on every row; the same again is nothing new.

    The other is one dead letter with the whole text: the rows of the version before stay, and its neighbour
    is stored.
    """
    stack = long_texts
    create(stack, "--on-too-long", "chunk", "--versions", "given")
    bad = LONG.replace("number 17", "number POISON")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text=LONG, version=1)
        stack.wait_until_done()
        first, calls = chunks(stack), len(stack.api.calls())
        for _ in range(2):
            producer.enqueue("docs", id="1", text=LONG, version=2, metadata={"n": 2})
            stack.wait_until_done()
        assert len(stack.api.calls()) == calls
        assert [row[1:] for row in rows(stack)] == [(chunk, 2, {"n": 2}) for chunk in first]
        stack.api.inject(BadText(), marker="POISON")
        items = [{"id": "1", "text": bad, "version": 3}, {"id": "2", "text": SHORT, "version": 3}]
        producer.enqueue_many("docs", items)
        stack.wait_until_done()
    assert [row[1:] for row in rows(stack)] == [(chunk, 2, {"n": 2}) for chunk in first]
    assert len(first) > 1
    assert chunks(stack, "2") == [SHORT]
    letters = stack.sql(
        "SELECT item_id, class, payload::json ->> 'text' FROM embedq.dead_letter"
        " JOIN embedq.dead_letter_text USING (number)"
    )
    assert letters == [("1", "text", bad)]


def test_a_service_that_takes_less_than_it_is_said_to(long_texts: Stack) -> None:
    """What it calls too long is made smaller: chunks, and a text that seemed to be within the limits."""
    stack = long_texts
    create(stack, "--on-too-long", "chunk", "--chunk-overlap", "0")
    stack.api.configure(max_characters=90, max_characters_in_array=90)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many(
            "docs", [{"id": "1", "text": LONG}, {"id": "2", "text": " ".join(SENTENCES[:3])}]
        )
        stack.wait_until_done()
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(0,)]
    stack.stored("docs")
    assert " ".join(chunks(stack)) == LONG
    assert max(map(len, chunks(stack))) <= 90
    assert " ".join(chunks(stack, "2")) == " ".join(SENTENCES[:3])
    assert len(chunks(stack, "2")) > 1


def test_a_text_is_cut_and_a_query_is_not(long_texts: Stack) -> None:
    """The vector is of the text's beginning; the content is all of it, and the ledger says so.

    A query that the service calls too long is an error: no vector of a part of it answers for it. A text that
    cannot be made small enough is a dead letter after a few tries.
    """
    stack = long_texts
    create(stack, "--on-too-long", "truncate")
    (cut,) = Cutter(MODEL).split(LONG)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": "1", "text": LONG}, {"id": "2", "text": SHORT}])
        stack.wait_until_done()
        stack.api.configure(max_characters=100, max_characters_in_array=100)
        with pytest.raises(EmbedqError, match="too_big"):
            producer.embed_query("docs", LONG)
        assert len(producer.embed_query("docs", SHORT)) == DIMENSIONS
        stack.api.configure(max_characters=2, max_characters_in_array=2)
        calls = len(stack.api.calls())
        producer.enqueue("docs", id="3", text=LONG + SHORT)
        stack.wait_until_done()
        assert 2 < len(stack.api.calls()) - calls < 10
    assert len(cut) < len(LONG)
    assert (chunks(stack), chunks(stack, "2")) == ([LONG], [SHORT])
    ((vector,),) = stack.sql("SELECT embedding::real[] FROM docs WHERE id = '1'")
    assert np.array_equal(np.array(vector, np.float32), vector_of(cut, DIMENSIONS))
    ledger = stack.sql("SELECT id, chunks, truncated FROM embedq.item ORDER BY id")
    assert ledger == [("1", 1, True), ("2", 1, False)]
    letters = stack.sql("SELECT item_id, class, code FROM embedq.dead_letter")
    assert letters == [("3", "text", "too_big")]


def test_a_message_of_the_longest_text(long_texts: Stack) -> None:
    """A mebibyte becomes thousands of rows in one transaction; a short text need not wait for it."""
    stack = long_texts
    collection = create(stack, "--on-too-long", "chunk")
    text = LONG * (1_000_000 // len(LONG))
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text=text)
        producer.enqueue("docs", id="2", text=SHORT)
        stack.wait_until_done(50)
    found = stack.sql("SELECT count(*), count(DISTINCT xmin::text) FROM docs WHERE id = '1'")
    assert found == [(len(Chunker(collection, MODEL).split(text)), 1)]
    assert chunks(stack, "2") == [SHORT]
