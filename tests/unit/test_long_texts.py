"""How long texts are to be treated: defaults from the model's limits, and what cannot be."""

from __future__ import annotations

import pytest

from embedq_worker.catalogue import Model
from embedq_worker.errors import BadChunks
from embedq_worker.store.long_texts import LongTexts

MODEL = Model(id="m", dimensions=4, max_tokens=512)


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        (LongTexts(), LongTexts("error")),
        (LongTexts("truncate"), LongTexts("truncate")),
        (LongTexts("chunk"), LongTexts("chunk", 512, 51)),
        (LongTexts("chunk", 256), LongTexts("chunk", 256, 25)),
        (LongTexts("chunk", 256, 0), LongTexts("chunk", 256, 0)),
        (LongTexts("chunk", 64, 32), LongTexts("chunk", 64, 32)),
    ],
)
def test_defaults(wanted: LongTexts, made: LongTexts) -> None:
    """As much as the model takes, and a tenth of it again."""
    assert wanted.of(MODEL) == made
    assert made.of(MODEL) == made


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (LongTexts("chunk", 513), "512 at most"),
        (LongTexts("chunk", 63), "64 or more"),
        (LongTexts("chunk", 100, 51), "50 or fewer"),
        (LongTexts("error", 100), "--on-too-long chunk"),
        (LongTexts("truncate", None, 5), "--on-too-long chunk"),
    ],
)
def test_what_cannot_be(wanted: LongTexts, said: str) -> None:
    """The message says what to choose."""
    with pytest.raises(BadChunks, match=said):
        wanted.of(MODEL)


def test_a_model_of_few_tokens() -> None:
    """It may have chunks as short as its limit."""
    assert LongTexts("chunk").of(Model(id="m", dimensions=4, max_tokens=40)) == LongTexts("chunk", 40, 4)
