"""Which vectors are interchangeable."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.catalogue import Model
from embedq_worker.engine.cache.caches import kind_of
from embedq_worker.engine.texts import Shape

SHAPE = Shape(4, "document")
URL = "http://service/v1"
MODEL = Model(id="m", dimensions=4)
PARAMETERS = st.dictionaries(
    st.text(max_size=5), st.integers() | st.booleans() | st.text(max_size=5), max_size=4
)


@pytest.mark.parametrize(
    "other",
    [
        kind_of(msgspec.structs.replace(MODEL, id="n"), SHAPE, URL),
        kind_of(msgspec.structs.replace(MODEL, document_prefix="passage: "), SHAPE, URL),
        kind_of(msgspec.structs.replace(MODEL, document_parameters={"input_type": "document"}), SHAPE, URL),
        kind_of(msgspec.structs.replace(MODEL, base_url="http://other/v1"), SHAPE, URL),
        kind_of(MODEL, SHAPE, "http://other/v1"),
        kind_of(MODEL, Shape(5, "document"), URL),
        kind_of(MODEL, Shape(4, "query"), URL),
    ],
)
def test_whatever_shapes_a_vector_tells_kinds_apart(other: object) -> None:
    """Model, prefix, parameters, service, dimensions and purpose."""
    assert other != kind_of(MODEL, SHAPE, URL)


def test_limits_do_not_tell_kinds_apart() -> None:
    """A model with other limits or another key makes the same vectors."""
    other = msgspec.structs.replace(MODEL, max_concurrency=3, tokens_per_minute=5, max_inputs=7, base64=True)
    assert kind_of(other, SHAPE, URL) == kind_of(MODEL, SHAPE, URL)


@given(PARAMETERS)
def test_the_order_of_parameters_does_not_matter(parameters: dict[str, str | bool | int]) -> None:
    """The text that stands for them is canonical JSON."""
    there = msgspec.structs.replace(MODEL, document_parameters=parameters)
    back = msgspec.structs.replace(MODEL, document_parameters=dict(reversed(parameters.items())))

    assert kind_of(there, SHAPE, URL) == kind_of(back, SHAPE, URL)
    assert json.loads(kind_of(there, SHAPE, URL).parameters)["parameters"] == parameters
