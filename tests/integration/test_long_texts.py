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
from embedq_worker.engine.splitter import Chunker, Cutter
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


def test_an_unchanged_document_costs_no_call(long_texts: Stack) -> None:
    """Its version and metadata move on every row; the same message again changes nothing."""
    stack = long_texts
    create(stack, "--on-too-long", "chunk", "--versions", "given")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text=LONG, version=1)
        stack.wait_until_done()
        first, calls = chunks(stack), len(stack.api.calls())
        for _ in range(2):
            producer.enqueue("docs", id="1", text=LONG, version=2, metadata={"n": 2})
            stack.wait_until_done()
        assert len(stack.api.calls()) == calls
    assert chunks(stack) == first
    assert [row[2:] for row in rows(stack)] == [(2, {"n": 2})] * len(first)
    assert len(first) > 1


def test_a_refused_chunk_refuses_its_document(long_texts: Stack) -> None:
    """One dead letter with the whole text; the rows of the version before stay, neighbours are stored."""
    stack = long_texts
    create(stack, "--on-too-long", "chunk", "--versions", "given")
    bad = LONG.replace("number 17", "number POISON")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text=LONG, version=1)
        stack.wait_until_done()
        before = rows(stack)
        stack.api.inject(BadText(), marker="POISON")
        producer.enqueue_many(
            "docs", [{"id": "1", "text": bad, "version": 2}, {"id": "2", "text": SHORT, "version": 2}]
        )
        stack.wait_until_done()
    assert rows(stack) == before
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


def test_a_text_is_cut(long_texts: Stack) -> None:
    """The vector is of its beginning; the content is all of it, and the ledger says so."""
    stack = long_texts
    create(stack, "--on-too-long", "truncate")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": "1", "text": LONG}, {"id": "2", "text": SHORT}])
        stack.wait_until_done()
    (cut,) = Cutter(MODEL).split(LONG)
    assert len(cut) < len(LONG)
    assert (chunks(stack), chunks(stack, "2")) == ([LONG], [SHORT])
    ((vector,),) = stack.sql("SELECT embedding::real[] FROM docs WHERE id = '1'")
    assert np.array_equal(np.array(vector, np.float32), vector_of(cut, DIMENSIONS))
    ledger = stack.sql("SELECT id, chunks, truncated FROM embedq.item ORDER BY id")
    assert ledger == [("1", 1, True), ("2", 1, False)]


def test_a_text_too_long_to_be_made_small_enough(long_texts: Stack) -> None:
    """After a few tries it is a dead letter, whatever the collection does with long texts."""
    stack = long_texts
    create(stack, "--on-too-long", "truncate")
    stack.api.configure(max_characters=2, max_characters_in_array=2)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text=LONG)
        stack.wait_until_done()
    assert stack.sql("SELECT item_id, class, code FROM embedq.dead_letter") == [("1", "text", "too_big")]
    assert 2 < len(stack.api.calls()) < 10


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


def test_a_query_that_is_too_long_is_an_error(long_texts: Stack) -> None:
    """No vector of a part of it answers for it."""
    stack = long_texts
    create(stack, "--on-too-long", "truncate")
    stack.api.configure(max_characters=100, max_characters_in_array=100)
    with stack.worker(), stack.producer() as producer:
        with pytest.raises(EmbedqError, match="too_big"):
            producer.embed_query("docs", LONG)
        assert len(producer.embed_query("docs", SHORT)) == DIMENSIONS
