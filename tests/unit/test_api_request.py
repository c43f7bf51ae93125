"""The body of a request, family by family."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.api.request import Purpose, build_request
from embedq_worker.catalogue import Model, load_catalogue
from embedq_worker.errors import BadDimensions


def built(
    name: str, texts: list[str], *, dimensions: int | None = None, purpose: Purpose = "document"
) -> dict[str, Any]:
    """The body for a model of the catalogue, as read by a server."""
    model = load_catalogue().get(name)
    body: dict[str, Any] = json.loads(build_request(model, texts, dimensions or model.dimensions, purpose))
    return body


@pytest.mark.parametrize(
    ("name", "texts", "body"),
    [
        (
            "text-embedding-3-small",
            ["a"],
            {"input": ["a"], "dimensions": 1536, "encoding_format": "base64"},
        ),
        ("text-embedding-ada-002", ["a", "b"], {"input": ["a", "b"], "encoding_format": "base64"}),
        ("voyage-2", ["a"], {"input": "a", "input_type": "document"}),
        ("voyage-2", ["a", "b"], {"input": ["a", "b"], "input_type": "document"}),
        (
            "text-multilingual-embedding-002",
            ["a"],
            {"input": ["a"], "dimensions": 768, "task_type": "RETRIEVAL_DOCUMENT", "auto_truncate": False},
        ),
        ("alibaba/qwen-text-embedding-v3", ["a"], {"input": ["a"], "dimensions": 1024}),
        ("BAAI/bge-base-en-v1.5", ["a"], {"input": ["a"], "encoding_format": "float"}),
    ],
)
def test_each_family_gets_the_fields_that_it_knows(name: str, texts: list[str], body: dict[str, Any]) -> None:
    """The whole body of each family is exactly what its schema has; ``user`` is never in it."""
    assert built(name, texts) == {"model": name, **body}


def test_an_alias_is_sent_under_the_models_id() -> None:
    """The id of the catalogue is sent, whatever name was asked for."""
    assert built("openai/text-embedding-3-small", ["a"])["model"] == "text-embedding-3-small"


def test_dimensions_are_those_asked_for() -> None:
    """A model that takes sizes is told the collection's."""
    assert built("text-embedding-3-large", ["a"], dimensions=256)["dimensions"] == 256


def test_dimensions_that_the_model_lacks_are_refused() -> None:
    """Nothing is built for a size that the model does not make."""
    with pytest.raises(BadDimensions):
        built("text-embedding-ada-002", ["a"], dimensions=256)


def test_queries_are_asked_for_as_queries() -> None:
    """Google gets its query task, BGE its instruction; documents get neither."""
    google = built("text-multilingual-embedding-002", ["q"], purpose="query")
    bge = built("BAAI/bge-base-en-v1.5", ["q"], purpose="query")

    assert google["task_type"] == "RETRIEVAL_QUERY"
    assert bge["input"] == ["Represent this sentence for searching relevant passages: q"]
    assert built("voyage-2", ["q"], purpose="query")["input_type"] == "document"


def test_document_prefixes_are_put_before_each_text() -> None:
    """A user's model with prefixes gets them by purpose."""
    model = Model(id="e5", dimensions=8, document_prefix="passage: ", query_prefix="query: ")

    assert json.loads(build_request(model, ["a", "b"], 8, "document"))["input"] == [
        "passage: a",
        "passage: b",
    ]
    assert json.loads(build_request(model, ["a"], 8, "query"))["input"] == ["query: a"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_texts_arrive_unchanged_and_in_order(texts: list[str]) -> None:
    """Whatever the characters, the server reads the same strings; never tokens."""
    assert built("text-embedding-ada-002", texts)["input"] == texts
