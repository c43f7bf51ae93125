"""The column types of collections: which vectors an index takes, and what is said where it takes none."""

from __future__ import annotations

import pytest

from embedq_worker.errors import CollectionConflict, VectorTooLong
from embedq_worker.store.collection import Quantization, VectorType
from embedq_worker.store.quantization import column_type


@pytest.mark.parametrize(
    ("dimensions", "asked", "expected"),
    [
        (1, None, "vector"),
        (2000, None, "vector"),
        (2001, None, "halfvec"),
        (4000, None, "halfvec"),
        (8, "halfvec", "halfvec"),
    ],
)
def test_column_type_takes_an_index(dimensions: int, asked: VectorType | None, expected: str) -> None:
    """The widest type that an index takes, unless asked otherwise."""
    assert column_type(dimensions, asked) == expected


@pytest.mark.parametrize(
    ("dimensions", "asked", "advice"),
    [(2001, "vector", "use halfvec"), (4001, None, "fewer"), (4001, "halfvec", "fewer")],
)
def test_unindexable_columns_are_refused(dimensions: int, asked: VectorType | None, advice: str) -> None:
    """A column that could never have an index is refused with what to do."""
    with pytest.raises(VectorTooLong, match=advice):
        column_type(dimensions, asked)


@pytest.mark.parametrize(
    ("dimensions", "quantization", "expected"),
    [(4000, "halfvec", "vector"), (2001, "binary", "vector"), (16_000, "binary", "vector")],
)
def test_quantised_index_takes_longer_vectors(
    dimensions: int, quantization: Quantization, expected: VectorType
) -> None:
    """The column keeps the whole vectors where the index needs not hold them."""
    assert column_type(dimensions, None, quantization) == expected


@pytest.mark.parametrize(
    ("dimensions", "asked", "quantization", "advice"),
    [
        (2001, "vector", "none", "--quantization halfvec, use --quantization binary, or choose fewer"),
        (4001, None, "halfvec", "takes 4000 at most; use --quantization binary, or choose fewer"),
        (16_001, None, "binary", "16000 at most; choose fewer"),
    ],
)
def test_advice_names_what_would_do(
    dimensions: int, asked: VectorType | None, quantization: Quantization, advice: str
) -> None:
    """Only what holds the vectors."""
    with pytest.raises(VectorTooLong, match=advice):
        column_type(dimensions, asked, quantization)


def test_halves_of_halves_are_refused() -> None:
    """An index of a halfvec column holds halves as it is."""
    with pytest.raises(CollectionConflict, match="leave --quantization out"):
        column_type(8, "halfvec", "halfvec")
