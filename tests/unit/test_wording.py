"""Numbers and money in sentences."""

from __future__ import annotations

from decimal import Decimal

import pytest

from embedq.wording import counted
from embedq_worker.money import dollars


def test_one_is_no_plural() -> None:
    """And thousands are parted."""
    assert [counted(number, "item") for number in (0, 1, 2_000)] == ["0 items", "1 item", "2,000 items"]
    assert [counted(number, "query", "queries") for number in (1, 2)] == ["1 query", "2 queries"]


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, "unknown"),
        (Decimal(0), "$0.00"),
        (Decimal("0.00000002"), "$0.000000020"),
        (0.0034, "$0.0034"),
        (Decimal("0.0240"), "$0.024"),
        (Decimal("0.5"), "$0.50"),
        (Decimal("0.999"), "$1.00"),
        (Decimal("1234.567"), "$1,234.57"),
    ],
)
def test_what_costs_something_is_not_shown_as_nothing(amount: Decimal | float | None, said: str) -> None:
    """Below a dollar there are two digits that are not 0, where there are two."""
    assert dollars(amount) == said
