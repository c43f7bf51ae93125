"""Reading answers: what becomes vectors, and what must not."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedq_worker.api.response import Vectors, read_answer
from embedq_worker.errors import MalformedAnswer, Transient

FINITE = st.floats(-1e3, 1e3, width=32).filter(lambda value: abs(value) > 1e-3)
MATRICES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FINITE, fill=st.nothing()
)
ONE = [1.0, 2.0]


def encoded(vector: Vectors) -> str:
    """A vector as the API writes base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def item(index: object, embedding: object) -> dict[str, object]:
    """One entry of ``data``."""
    return {"object": "embedding", "index": index, "embedding": embedding}


def body(*items: dict[str, object], **more: Any) -> bytes:
    """An answer with these entries."""
    return json.dumps({"object": "list", "data": list(items), "model": "other-than-asked", **more}).encode()


@given(MATRICES, st.randoms(use_true_random=False))
def test_any_order_and_mixture_of_forms_gives_the_same_vectors(vectors: Vectors, random: Any) -> None:
    """Vectors are placed by index and bit for bit, base64 and lists side by side."""
    items = [
        item(index, encoded(vector) if random.random() < 0.5 else [float(value) for value in vector])
        for index, vector in enumerate(vectors)
    ]
    random.shuffle(items)
    answer = read_answer(body(*items), *vectors.shape)

    assert answer.vectors.tobytes() == vectors.tobytes()
    assert answer.vectors.dtype == np.dtype("=f4")
    assert answer.vectors.flags.c_contiguous


def test_whole_numbers_and_a_float_index_are_taken() -> None:
    """Integers among the components and 0.0 for an index are what some servers write."""
    assert read_answer(body(item(0.0, [1, 0])), 1, 2).vectors.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "not_json"),
        (b"<html>bad gateway</html>", "not_json"),
        (b'{"data": [', "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"null", "wrong_shape"),
        (b'{"error": {"message": "overloaded"}}', "wrong_shape"),
        (body(item(0, None)), "wrong_shape"),
        (body(item(0, [ONE])), "wrong_shape"),
        (body(item(0, "not base64!")), "wrong_shape"),
        (body(item("0", ONE)), "wrong_shape"),
        (body(), "wrong_count"),
        (body(item(0, ONE), item(1, ONE), item(2, ONE)), "wrong_count"),
        (body(item(0, ONE), item(0, ONE)), "wrong_index"),
        (body(item(0, ONE), item(2, ONE)), "wrong_index"),
        (body(item(0, ONE), item(-1, ONE)), "wrong_index"),
        (body(item(0, ONE), item(0.5, ONE)), "wrong_index"),
        (body(item(0, ONE), item(None, ONE)), "wrong_index"),
        (body(item(0, ONE), {"embedding": ONE}), "wrong_index"),
        (body(item(0, ONE), item(1, [1.0])), "wrong_dimensions"),
        (body(item(0, ONE), item(1, [1.0, 2.0, 3.0])), "wrong_dimensions"),
        (body(item(0, ONE), item(1, [])), "wrong_dimensions"),
        (body(item(0, ONE), item(1, "AACAPw==")), "wrong_dimensions"),
        (body(item(0, ONE), item(1, "AACAPwAAgA==")), "wrong_dimensions"),
        (body(item(0, ONE), item(1, [1.0, float("nan")])), "not_finite"),
        (body(item(0, ONE), item(1, [1.0, None])), "not_finite"),
        (body(item(0, ONE), item(1, ONE)).replace(b"1.0", b"1e999"), "not_finite"),
        (body(item(0, ONE), item(1, [1.0, 1e39])), "not_finite"),
        (body(item(0, ONE), item(1, [1e30, 0.0])), "not_finite"),
        (body(item(0, ONE), item(1, encoded(np.array([1, np.nan], np.float32)))), "not_finite"),
        (body(item(0, ONE), item(1, encoded(np.array([1, -np.inf], np.float32)))), "not_finite"),
        (body(item(0, ONE), item(1, [0.0, -0.0])), "zero_vector"),
        (body(item(0, ONE), item(1, [1e-30, 0.0])), "zero_vector"),
    ],
)
def test_a_wrong_answer_is_named(answer: bytes, code: str) -> None:
    """Every way of being wrong has its code, and no answer slips through."""
    with pytest.raises(MalformedAnswer) as caught:
        read_answer(answer, 2, 2)

    assert caught.value.code == code
    assert isinstance(caught.value, Transient)
    assert "check base_url" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 5, "total_tokens": 6}, 6),
        ({"prompt_tokens": 5}, 5),
        ({"prompt_tokens": 5, "total_tokens": None}, 5),
        ({"total_tokens": "7"}, 7),
        ({"total_tokens": 7.0}, 7),
        ({"total_tokens": "many"}, None),
        ({"total_tokens": True}, None),
        ({"total_tokens": 0, "prompt_tokens": 0}, None),
        ({"total_tokens": -1}, None),
        ({"total_tokens": {}}, None),
        ({}, None),
        ([], None),
        ("none", None),
        (None, None),
    ],
)
def test_usage_is_read_where_it_is_there(usage: object, tokens: int | None) -> None:
    """Missing, partial and odd usage never spoils an answer."""
    assert read_answer(body(item(0, ONE), usage=usage), 1, 2).tokens == tokens


def test_usage_may_be_missing() -> None:
    """Some servers send none."""
    assert read_answer(body(item(0, ONE)), 1, 2).tokens is None


@given(st.binary())
def test_no_bytes_break_the_reader(answer: bytes) -> None:
    """Whatever comes, it is an answer or a MalformedAnswer."""
    with pytest.raises(MalformedAnswer):
        read_answer(answer, 1, 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "x"]), inner, max_size=2)
    ),
)


@given(st.lists(st.fixed_dictionaries({"index": JSON, "embedding": JSON}), max_size=2), JSON)
def test_no_json_breaks_the_reader(data: list[dict[str, Any]], usage: Any) -> None:
    """Whatever JSON comes, nothing but finite vectors of a length passes."""
    try:
        answer = read_answer(body(*data, usage=usage), 2, 2)
    except MalformedAnswer:
        return

    assert np.isfinite(answer.vectors).all()
    assert (np.linalg.norm(answer.vectors, axis=1) > 0).all()


def test_a_malformed_answer_survives_pickling() -> None:
    """Its code and model cross process borders."""
    error = MalformedAnswer("wrong_count")
    error.model = "m"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes

    assert (copy.code, copy.model, str(copy)) == ("wrong_count", "m", str(error))
