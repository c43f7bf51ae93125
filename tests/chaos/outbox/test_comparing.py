"""The comparison: each way in which a collection may not be what was committed."""

from __future__ import annotations

import numpy as np
import pytest

from embedq.testing import vector_of
from tests.chaos.checker import Stored
from tests.chaos.outbox.comparing import compare


def row(item_id: str, text: str, *, of: str | None = None) -> Stored:
    """A row; ``of``: the text whose vector it has, if it is another's."""
    return Stored(("orders", item_id), 1, text, np.array(vector_of(of or text, 4), dtype=np.float32))


@pytest.mark.parametrize(
    ("committed", "stored", "kind"),
    [
        ({"1": "a"}, [row("1", "a")], None),
        ({}, [], None),
        ({"1": "a"}, [], "lost"),
        ({"1": "a"}, [row("1", "b")], "stale"),
        ({}, [row("1", "a")], "unexpected"),
        ({"1": "a"}, [row("1", "a", of="b")], "wrong vector"),
    ],
)
def test_what_is_found(committed: dict[str, str], stored: list[Stored], kind: str | None) -> None:
    """Of each difference its kind, and nothing where there is none."""
    found = compare(committed, stored)
    assert list(found.broken) == ([] if kind is None else [kind])
    assert found.ok == (len(committed) if kind is None else 0)
