"""What of a long text is embedded: chunks that cover it, or its beginning, within the model's limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedq_worker.catalogue import Model
from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.splitting import chunking as module
from embedq_worker.engine.splitting.chunking import Span, SplitFailed
from embedq_worker.engine.splitting.splitter import MOST_TRIES, Chunker, Cutter, Splitter, splitter_of
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection, OnTooLong
from embedq_worker.tokens import Counter
from tests.support.docs_collection import DOCS

SMALL = Model(id="small", dimensions=4, max_tokens=100)
OPENAI = Settings().catalogue.usable("text-embedding-3-small")
"""Counted exactly, for its tokenizer is installed here."""
CAPPED = Model(id="capped", dimensions=4, max_chars_alone=50)
PREFIXED = Model(id="prefixed", dimensions=4, max_tokens=40, document_prefix="passage: " * 3)
GREEDY = Model(id="greedy", dimensions=4, max_tokens=100, tokens_per_byte=1.5)
PROSE = "A lease lapses by itself. Nobody waits for it, and nobody has to. "


def collection(
    on_too_long: OnTooLong = "chunk", tokens: int | None = None, overlap: int | None = None
) -> Collection:
    """A collection that does this with long texts."""
    return msgspec.structs.replace(DOCS, on_too_long=on_too_long, chunk_tokens=tokens, chunk_overlap=overlap)


SPLITTERS = [
    splitter
    for model in (SMALL, OPENAI, CAPPED, PREFIXED)
    for splitter in (Chunker(collection(tokens=80), model), Cutter(model))
]
texts = st.lists(
    st.sampled_from(
        [
            "word ",
            "Sentence. ",
            "\n",
            "\n\n",
            "  \t",
            "中文",
            "。",
            "👩‍👩‍👧",
            "e\u0301",
            "1234567890",
            "x" * 40,
        ]
    )
    | st.text(max_size=5),
    min_size=1,
    max_size=120,
).map("".join)
long_texts = texts.filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize(
    ("model", "tokens"), [(SMALL, 80), (OPENAI, 64), (CAPPED, 512), (PREFIXED, 64), (GREEDY, 64)]
)
@pytest.mark.parametrize("overlap", [0, 20])
def test_chunks_cover_the_text(model: Model, tokens: int, overlap: int) -> None:
    """In order, with nothing but white space between them, each within the limits, and always the same."""
    chunker = Chunker(collection(tokens=tokens, overlap=overlap), model)

    @settings(deadline=None, max_examples=60)
    @given(long_texts)
    @example(PROSE * 40)
    @example("x" * 3000)
    @example(" " * 2000 + "a" + " " * 2000 + "b")
    @example("中" * 900)
    @example("\x1f " * 600 + "a")
    @example("ok 200\n" * 900)
    @example(PROSE * 9 + "x1" * 900 + "\n\n" + PROSE * 9)
    def check(text: str) -> None:
        spans = chunker.spans(text)
        assert spans == Chunker(collection(tokens=tokens, overlap=overlap), model).spans(text)
        assert_covered(text, spans, overlap, chunker)
        sent = [model.document_prefix + chunk for _, chunk in spans]
        assert all(count_characters(each) <= (model.max_chars_alone or inf) for each in sent)
        assert all(Counter(model).count(each) <= min(tokens, model.max_tokens) for each in sent)

    check()


def assert_covered(text: str, spans: list[Span], overlap: int, splitter: Splitter) -> None:
    """Every character is in a chunk, but for white space between two; no chunk repeats more than may be."""
    end = 0
    before = -1
    for start, chunk in spans:
        assert chunk.strip()
        assert text.startswith(chunk, start)
        assert start > before
        assert not text[end:start].strip()
        assert splitter.size(text[start:end]) <= overlap
        before, end = start, max(end, start + len(chunk))
    assert not text[end:].strip()


def test_a_text_within_the_limits_is_left_alone() -> None:
    """With its white space; and a short one without being counted."""
    chunker = Chunker(collection(tokens=80), SMALL)
    assert chunker.split("  a text\n") == ["  a text\n"]
    assert chunker.fits("a")
    assert not chunker.fits("a" * 500)


@settings(deadline=None)
@given(texts)
def test_what_fits_is_within_the_limits(text: str) -> None:
    """The quick look is never wrong that way."""
    for splitter in SPLITTERS:
        if splitter.fits(text):
            assert splitter.size(text) <= splitter.most_tokens
            assert splitter.split(text) == [text]


@pytest.mark.parametrize("splitter", [Chunker(collection(tokens=80), SMALL), Cutter(SMALL)])
@pytest.mark.parametrize("text", [PROSE * 3, "x" * 120, "中" * 40], ids=["prose", "word", "wide"])
def test_what_the_service_refuses_becomes_smaller_each_time(splitter: Splitter, text: str) -> None:
    """By a third, or by nearly as much where words end elsewhere, until the tries are over."""
    size = splitter.size(text)
    for refusals in range(1, MOST_TRIES + 1):
        parts = splitter.split(text, refusals)
        if isinstance(splitter, Chunker):
            text = parts[0]  # what is refused next
            assert len(parts) > 1
        assert all(0 < splitter.size(part) <= size * 0.75 for part in parts)
        size = max(splitter.size(part) for part in parts)


def test_a_text_is_cut_after_a_word() -> None:
    """It is the text's beginning, as long as the limit lets it be, and less than a tenth shorter."""
    cutter = Cutter(OPENAI)
    text = PROSE * 2000
    (cut,) = cutter.split(text)
    assert text.startswith(cut)
    assert not cut[-1].isspace()
    assert text[len(cut)].isspace()
    assert 0.9 * OPENAI.max_tokens <= Counter(OPENAI).count(cut) <= OPENAI.max_tokens


@pytest.mark.parametrize("whole", ["👩‍👩‍👧", "e\u0301\u0302", "👍🏽", "x"])
def test_no_character_is_cut_in_two(whole: str) -> None:
    """What is drawn as one stays together, in a text without words."""
    cutter = Cutter(CAPPED)
    for before in range(8):
        (cut,) = cutter.split("a" * before + whole * 60)
        assert not (len(cut) - before) % len(whole)
        assert len(cut) > 30 / len(whole)


@pytest.mark.parametrize("splitter", [Cutter(OPENAI), Cutter(SMALL), Cutter(CAPPED)])
def test_a_text_that_begins_with_much_space(splitter: Splitter) -> None:
    """It is cut from its first word on: services refuse what is blank."""
    (cut,) = splitter.split(" " * 990_000 + "abc")
    assert cut == "abc"
    (cut,) = splitter.split("\n" * 990_000 + PROSE * 4000)
    assert PROSE.startswith(cut[: len(PROSE)])
    assert cut.strip()


def test_a_heap_of_accents_is_cut_like_a_word() -> None:
    """Nothing that long is drawn as one."""
    (cut,) = Cutter(CAPPED).split("e" + "\u0301" * 1000)
    assert len(cut) > 40


def test_no_text_is_cut_for_a_doubtful_estimate() -> None:
    """The service is asked first, up to twice the limit; with a tokenizer there is no doubt."""
    cutter = Cutter(SMALL)
    doubtful = PROSE * 4
    assert cutter.most_tokens < cutter.size(doubtful) <= 2 * cutter.most_tokens
    assert cutter.split(doubtful) == [doubtful]
    assert len(cutter.split(doubtful, 1)[0]) < len(doubtful)
    assert cutter.size(cutter.split(PROSE * 9)[0]) <= cutter.most_tokens


def test_what_a_collection_does() -> None:
    """By its setting."""
    assert splitter_of(collection("error"), SMALL) is None
    assert isinstance(splitter_of(collection("truncate"), SMALL), Cutter)
    assert isinstance(splitter_of(collection("chunk", 64, 0), SMALL), Chunker)


@pytest.mark.parametrize(
    "text",
    [
        PROSE * 16_000,
        "a" * (1 << 20),
        "中" * 350_000,
        " a" * 524_288,
        "👩‍👩‍👧" * 58_000,
        "x" + " " * (1 << 20) + "y",
    ],
    ids=["prose", "one word", "no sentences", "spaces", "emoji", "blank"],
)
@pytest.mark.parametrize("tokens", [256, 8000])
def test_a_long_text_takes_no_minute(text: str, tokens: int) -> None:
    """A message's worth of anything: alone, the library took minutes for a word of 1 MiB."""
    chunker = Chunker(collection(tokens=tokens, overlap=20), Model(id="m", dimensions=4, max_tokens=8192))
    began = time.monotonic()
    chunks = chunker.split(text)
    assert time.monotonic() - began < 30
    assert max(chunker.size(chunk) for chunk in chunks) <= tokens


class Measured:
    """How much a chunker has measured: texts, and characters that were counted exactly."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts = self.characters = 0
        weigh, estimate = Counter.weigh, Counter.estimate

        def weighed(counter: Counter, text: str) -> float:
            self.texts += 1
            self.characters += len(text)
            return weigh(counter, text)

        def estimated(counter: Counter, text: str) -> float:
            self.texts += 1
            return estimate(counter, text)

        monkeypatch.setattr(Counter, "weigh", weighed)
        monkeypatch.setattr(Counter, "estimate", estimated)

    def of(self, chunker: Chunker, text: str) -> tuple[int, int]:
        """While this text was split."""
        self.texts = self.characters = 0
        chunker.split(text)
        return self.texts, self.characters


@pytest.mark.parametrize("overlap", [0, 4095])
@pytest.mark.parametrize("line", ["a\n", "ok 200\n", "17,ok\n"])
def test_short_lines_are_no_more_work_than_prose(
    line: str, overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the text is twice the work; each character is counted a few times, whatever the lines are."""
    measured = Measured(monkeypatch)
    chunker = Chunker(collection(tokens=8191, overlap=overlap), OPENAI)
    size = 100_000
    texts, characters = measured.of(chunker, line * (size // len(line)))
    more_texts, more_characters = measured.of(chunker, line * (2 * size // len(line)))
    assert more_texts <= 2.5 * texts
    assert more_characters <= 2.5 * characters
    assert characters <= 8 * size
    of_prose, _ = measured.of(chunker, PROSE * (size // len(PROSE)))
    assert texts <= 8 * of_prose  # the prose makes a quarter of the chunks


def test_a_chunker_that_is_stopped_fails_soon() -> None:
    """Nobody waits for its chunks: a worker that stops does not either."""
    chunker = Chunker(collection(tokens=64), OPENAI)
    chunker.stop()
    with pytest.raises(SplitFailed, match="stopped"):
        chunker.split(PROSE * 40)


class Panic(BaseException):
    """As Rust's, which is no ``Exception``."""


def test_a_panic_of_the_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends no thread, and no loop."""

    class Broken:
        @staticmethod
        def from_callback(_: Callable[[str], int], *__: int) -> Broken:
            return Broken()

        def chunk_indices(self, _: str) -> list[tuple[int, str]]:
            raise Panic

    monkeypatch.setattr(module, "TextSplitter", Broken)
    with pytest.raises(SplitFailed, match="Panic"):
        Chunker(collection(tokens=64), SMALL).split(PROSE * 40)
