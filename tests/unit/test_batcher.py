"""The batcher packs waiting texts into requests, in fair turns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.engine.calling.batcher import Batcher
from embedq_worker.engine.texts import WaitingText
from embedq_worker.limiter import Flow
from tests.support.dispatching import Waiter

_keys = count()


@dataclass(frozen=True)
class Limits:
    """A model's limits, and the tokens of a request."""

    inputs: int = 4
    max_chars_in_array: int | None = None
    most_tokens: float = 1000.0


def text(collection: str = "a", *, length: int = 1, tokens: int = 1, arrived: float = 0.0) -> WaitingText:
    """A waiting text of so many characters and estimated tokens."""
    key = next(_keys).to_bytes(8, "big")
    return WaitingText(key, "x" * length, tokens, arrived, Flow("bulk", collection), Waiter())


def filled(limits: Limits, texts: list[WaitingText]) -> Batcher:
    """A batcher with texts."""
    batcher = Batcher(limits, limits.most_tokens, lambda: 0.0)
    for waiting in texts:
        batcher.add(waiting)
    return batcher


def granted(batcher: Batcher) -> list[list[WaitingText]]:
    """The requests of one round: as many calls as each collection wants, for as many tokens as it says."""
    wanted = batcher.wanted()
    return [batcher.take(name, want.tokens) for name, want in wanted.items() for _ in range(want.calls)]


limits = st.builds(
    Limits,
    inputs=st.integers(1, 8),
    max_chars_in_array=st.none() | st.integers(1, 20),
    most_tokens=st.floats(1, 50),
)
names = st.sampled_from("abcd")
texts = st.lists(
    st.builds(text, names, length=st.integers(1, 30), tokens=st.integers(1, 60), arrived=st.floats(0, 100)),
    max_size=40,
)


@given(limits, texts, st.lists(names))
def test_every_text_is_taken_once(limits: Limits, texts: list[WaitingText], turns: list[str]) -> None:
    """Nothing is lost and nothing doubled, whatever the limits, and whoever's turn it is."""
    batcher = filled(limits, texts)
    taken: list[WaitingText] = []
    for name in turns:
        taken += batcher.take(name)
    assert len(batcher) == len(texts) - len(taken)
    assert sorted(map(id, batcher.texts())) == sorted({*map(id, texts)} - {*map(id, taken)})
    while batch := batcher.take("a"):
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, texts))
    assert len(batcher) == 0
    assert not batcher.full
    assert batcher.wanted() == {}
    assert batcher.take("a") == []


@given(limits, texts, names, st.floats(1, 60))
def test_no_request_exceeds_a_limit(
    limits: Limits, texts: list[WaitingText], name: str, reserved: float
) -> None:
    """Inputs, tokens and characters are kept; a text over a limit goes alone, if what is reserved will do."""
    batcher = filled(limits, texts)
    while batch := batcher.take(name, reserved):
        tokens = sum(waiting.tokens for waiting in batch)
        assert len(batch) <= limits.inputs
        assert tokens <= reserved
        if len(batch) > 1:
            assert tokens <= limits.most_tokens
            assert all(waiting.characters <= (limits.max_chars_in_array or 1000) for waiting in batch)
    left = batcher.texts()
    assert not left or max(waiting.tokens for waiting in left) > reserved


@given(limits, texts, names)
def test_requests_are_packed(limits: Limits, texts: list[WaitingText], name: str) -> None:
    """No request could have taken the text that was first in line after it."""
    batcher = filled(limits, texts)
    while batch := batcher.take(name):
        if batch[0].characters > (limits.max_chars_in_array or 1000) or len(batch) == limits.inputs:
            continue
        shared = [
            waiting
            for waiting in batcher.texts()
            if waiting.characters <= (limits.max_chars_in_array or 1000)
        ]
        tokens = sum(waiting.tokens for waiting in batch)
        assert not shared or tokens + max(waiting.tokens for waiting in shared) > limits.most_tokens


@given(limits, texts)
def test_a_collection_keeps_its_order(limits: Limits, texts: list[WaitingText]) -> None:
    """Texts that can share requests are taken as they came."""
    limits = Limits(limits.inputs, None, limits.most_tokens)
    batcher = filled(limits, texts)
    taken: list[WaitingText] = []
    while batch := batcher.take("b"):
        taken += batch
    for name in "abcd":
        came = [waiting for waiting in texts if waiting.flow.collection == name]
        assert [waiting for waiting in taken if waiting.flow.collection == name] == came


@given(st.integers(1, 8), st.integers(1, 9), st.floats(1, 50), st.lists(names, min_size=1, max_size=60))
def test_of_equal_texts_just_enough_calls_are_wanted(
    inputs: int, tokens: int, most: float, collections: list[str]
) -> None:
    """As many as full requests need, whoever's texts they are, and these take all."""
    batcher = filled(Limits(inputs, None, most), [text(name, tokens=tokens) for name in collections])
    size = max(1, min(inputs, int(most / tokens)))
    requests = granted(batcher)
    assert len(requests) == -(-len(collections) // size)
    assert sum(map(len, requests)) == len(collections)


@given(limits, texts)
def test_what_is_wanted_empties_it(limits: Limits, texts: list[WaitingText]) -> None:
    """Round after round, whatever the sizes: while anything waits something is wanted, and no grant is empty
    in a round's first call; never more calls are wanted than texts wait.
    """
    batcher = filled(limits, texts)
    for _ in texts:
        if not batcher:
            break
        calls = sum(want.calls for want in batcher.wanted().values())
        assert 1 <= calls <= len(batcher)
        waited = len(batcher)
        requests = granted(batcher)
        assert requests[0]
        assert sum(map(len, requests)) == waited - len(batcher)
    assert not batcher


@given(limits, texts)
def test_what_is_wanted_does_for_the_first_text(limits: Limits, texts: list[WaitingText]) -> None:
    """However long it is: else a grant would reserve less than its request takes."""
    batcher = filled(limits, texts)
    for name, want in batcher.wanted().items():
        [first] = batcher.take(name, want.tokens)[:1]
        assert first.flow.collection == name
        assert first.tokens <= want.tokens
        batcher = filled(limits, texts)


def test_small_collections_share_a_request() -> None:
    """One call is wanted for all of them, and takes all."""
    batcher = filled(Limits(inputs=8), [text(name) for name in "abcdabcd"])
    assert [want.calls for want in batcher.wanted().values()] == [1, 0, 0, 0]
    assert len(batcher.take("c")) == 8


def test_nobody_is_passed_over_for_ever() -> None:
    """Three collections fill up the requests of a fourth in turn, however much the first of them has."""
    batcher = filled(Limits(inputs=4), [text(name) for name in "bcd" for _ in range(20)])
    filled_up: Counter[str] = Counter()
    for _ in range(6):
        for _ in range(3):
            batcher.add(text("a"))
        filled_up.update(waiting.flow.collection for waiting in batcher.take("a"))
    assert filled_up == {"a": 18, "b": 2, "c": 2, "d": 2}


def test_who_does_not_fit_stays_first() -> None:
    """A text that is too large for what a request has left is in the next one."""
    limits = Limits(inputs=8, most_tokens=10)
    batcher = filled(limits, [text("a", tokens=6), text("b", tokens=5), text("c", tokens=5)])
    assert [waiting.flow.collection for waiting in batcher.take("a")] == ["a"]
    batcher.add(text("a", tokens=6))
    assert next(name for name, want in batcher.wanted().items() if want.calls) == "b"
    assert [waiting.flow.collection for waiting in batcher.take("x")] == ["b", "c"]


def test_a_turn_without_texts_is_another_collections() -> None:
    """Its texts may have gone with another request."""
    batcher = filled(Limits(), [text("a")])
    assert not batcher.has("b")
    assert [waiting.flow.collection for waiting in batcher.take("b")] == ["a"]


def test_full_when_waiting_would_not_help() -> None:
    """A batcher is full at the limit of inputs, and no earlier."""
    batcher = filled(Limits(inputs=2), [text("a")])
    fills = [batcher.full]
    batcher.add(text("b"))
    fills.append(batcher.full)
    batcher.take("a")
    assert [*fills, batcher.full] == [False, True, False]


def test_full_by_tokens() -> None:
    """Tokens fill a request as inputs do, and taking them empties it again."""
    batcher = filled(Limits(most_tokens=10), [text(tokens=6)])
    fills = [batcher.full]
    batcher.add(text(tokens=6))
    fills.append(batcher.full)
    assert len(batcher.take("a")) == 1
    assert [*fills, batcher.full] == [False, True, False]


def test_the_limit_of_tokens_may_change() -> None:
    """What is learned of a model holds for what waits already."""
    batcher = filled(Limits(inputs=8, most_tokens=10), [text(tokens=5) for _ in range(4)])
    assert batcher.wanted()["a"].calls == 2
    batcher.most_tokens = 5
    assert batcher.wanted()["a"].calls == 4
    assert len(batcher.take("a")) == 1


def test_a_long_text_goes_alone_and_in_turn() -> None:
    """The Voyage rule: a text longer than an array allows is a request of its own, when its turn comes."""
    first, long, last = text(arrived=1), text(length=9, tokens=7, arrived=2), text(arrived=3)
    batcher = Batcher(Limits(max_chars_in_array=5), 1000, lambda: 9.0)
    for waiting in (first, long, last):
        batcher.add(waiting)
    assert batcher.oldest_wait == 8.0
    assert batcher.full
    assert batcher.wanted()["a"] == (2, 7)
    assert batcher.take("a") == [first, last]
    assert batcher.take("a") == [long]
    assert batcher.oldest_wait == 0.0


@given(limits, texts, st.data())
def test_a_text_can_be_taken_out(limits: Limits, texts: list[WaitingText], data: st.DataObject) -> None:
    """It leaves nothing behind: the others are as if it had never come. A second time it is not there."""
    out = data.draw(st.lists(st.sampled_from(texts), unique_by=id) if texts else st.just([]))
    batcher = filled(limits, texts)
    for waiting in out:
        assert batcher.remove(waiting)
        assert not batcher.remove(waiting)
    assert not batcher.remove(text("a"))
    gone = {*map(id, out)}
    others = filled(limits, [waiting for waiting in texts if id(waiting) not in gone])
    assert len(batcher) == len(others)
    assert batcher.full == others.full
    assert sum(want.calls for want in batcher.wanted().values()) == sum(
        want.calls for want in others.wanted().values()
    )
    left: list[WaitingText] = []
    while batch := batcher.take("a"):
        left += batch
    assert sorted(map(id, left)) == sorted({*map(id, texts)} - gone)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(1, 300)), max_size=20))
def test_held_texts_count_for_nothing(given_: list[tuple[str, int, int]]) -> None:
    """As if they were not there, until they are held no more; none is lost."""
    held: set[str] = set()
    limits = Limits(max_chars_in_array=5)
    texts = [text(name, length=length, tokens=tokens) for name, length, tokens in given_]
    batcher = Batcher(limits, limits.most_tokens, lambda: 0.0, held.__contains__)
    for waiting in texts[::2]:
        batcher.add(waiting)
    held.add("a")
    batcher.sort_out()
    for waiting in texts[1::2]:
        batcher.add(waiting)
    free = filled(limits, [each for each in texts if each.flow.collection != "a"])
    assert (len(batcher), batcher.full, not batcher.has("a")) == (len(free), free.full, True)
    assert batcher.wanted().keys() == free.wanted().keys()
    assert {each.key for each in batcher.texts()} == {each.key for each in texts}
    held.clear()
    batcher.sort_out()
    everything = filled(limits, texts)
    assert (len(batcher), batcher.full) == (len(everything), everything.full)
    taken = 0
    while batch := batcher.take("a"):
        taken += len(batch)
    assert (taken, len(batcher)) == (len(texts), 0)
    assert not batcher.full
