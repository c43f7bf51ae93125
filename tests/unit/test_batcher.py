"""The batcher packs waiting texts into requests."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.engine.batcher import Batcher, WaitingText


@dataclass(frozen=True)
class Limits:
    """A model's limits."""

    inputs: int = 4
    max_request_tokens: int | None = None
    max_chars_in_array: int | None = None


def text(length: int = 1, tokens: int = 1, arrived: float = 0.0) -> WaitingText:
    """A waiting text of so many characters and estimated tokens."""
    return WaitingText(b"", "x" * length, tokens, arrived)


limits = st.builds(
    Limits,
    inputs=st.integers(1, 8),
    max_request_tokens=st.none() | st.integers(1, 50),
    max_chars_in_array=st.none() | st.integers(1, 20),
)
texts = st.lists(st.builds(text, st.integers(1, 30), st.integers(1, 60), st.floats(0, 100)), max_size=40)


@given(limits, texts)
def test_every_text_is_taken_once(limits: Limits, texts: list[WaitingText]) -> None:
    """Nothing is lost and nothing doubled, whatever the limits."""
    batcher = Batcher(limits, lambda: 0.0)
    for waiting in texts:
        batcher.add(waiting)
    taken: list[WaitingText] = []
    while batch := batcher.take():
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, texts))
    assert len(batcher) == 0


@given(limits, texts)
def test_no_batch_exceeds_a_limit(limits: Limits, texts: list[WaitingText]) -> None:
    """Inputs, tokens and characters are kept; a text over a limit goes alone."""
    batcher = Batcher(limits, lambda: 0.0)
    for waiting in texts:
        batcher.add(waiting)
    while batch := batcher.take():
        assert len(batch) <= limits.inputs
        if len(batch) > 1:
            assert sum(waiting.tokens for waiting in batch) <= (limits.max_request_tokens or 10**9)
            assert all(waiting.characters <= (limits.max_chars_in_array or 10**9) for waiting in batch)


def test_full_when_waiting_would_not_help() -> None:
    """A batcher is full at the limit of inputs, and no earlier."""
    batcher = Batcher(Limits(inputs=2), lambda: 0.0)
    batcher.add(text())
    fills = [batcher.full]
    batcher.add(text())
    fills.append(batcher.full)
    batcher.take()
    assert [*fills, batcher.full] == [False, True, False]


def test_full_by_tokens() -> None:
    """Tokens fill a request as inputs do, and taking them empties it again."""
    batcher = Batcher(Limits(max_request_tokens=10), lambda: 0.0)
    batcher.add(text(tokens=6))
    fills = [batcher.full]
    batcher.add(text(tokens=6))
    fills.append(batcher.full)
    assert len(batcher.take()) == 1
    assert [*fills, batcher.full] == [False, True, False]


def test_a_long_text_goes_alone_and_in_turn() -> None:
    """The Voyage rule: a text longer than an array allows is a request of its own, when its turn comes."""
    batcher = Batcher(Limits(max_chars_in_array=5), lambda: 9.0)
    first, long, last = text(1, arrived=1), text(9, arrived=2), text(1, arrived=3)
    for waiting in (first, long, last):
        batcher.add(waiting)
    assert batcher.oldest_wait == 8.0
    assert batcher.take() == [first, last]
    assert batcher.take() == [long]
