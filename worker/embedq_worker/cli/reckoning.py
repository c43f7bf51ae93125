"""Reckoning: what texts would cost that are not enqueued yet. No input or output here."""

from __future__ import annotations

from decimal import Decimal
from math import ceil

import msgspec

from embedq_worker.catalogue import Model
from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.money.usage import cost_of
from embedq_worker.engine.splitting.chunking import SplitFailed
from embedq_worker.engine.splitting.splitter import splitter_of
from embedq_worker.limiter import Limits
from embedq_worker.store.collection import Collection
from embedq_worker.tokens import Counter


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What embedding a file would take. None where nothing is known."""

    collection: str
    model: str
    items: int
    """With a text; those left out because it is stored already are ``unchanged``."""
    unchanged: int
    deletes: int
    bad_lines: int
    too_long: int
    """Of the items: they would become dead letters, and cost nothing."""
    texts: int
    """What the model is given: of chunked collections, the chunks."""
    tokens: int
    is_exact: bool
    """Whether the model's own tokenizer counted; else it is a guess, on the high side."""
    requests: int
    """At least: with full requests."""
    dollars: Decimal | None
    """At the list price of the model's provider."""
    seconds: float | None
    """At least, by the limits."""
    rests_on: str | None
    """The limit that takes longest."""


class Reckoning:
    """Adds up the items of one collection."""

    def __init__(self, collection: Collection, model: Model) -> None:
        self.bad_lines = 0
        self._collection = collection
        self._model = model
        self._counter = Counter(model)
        self._splitter = splitter_of(collection, model)
        self._items = self._unchanged = self._deletes = self._too_long = self._texts = 0
        self._tokens = 0.0

    def add_delete(self) -> None:
        """A delete, which costs nothing."""
        self._deletes += 1

    def add_unchanged(self) -> None:
        """An item whose text is stored: only its version would move."""
        self._unchanged += 1

    def add(self, text: str) -> None:
        """An item's text."""
        self._items += 1
        most = self._model.max_chars_alone
        if self._splitter is None and most is not None and count_characters(text) > most:
            self._too_long += 1
            return
        for part in self._parts(text):
            self._texts += 1
            self._tokens += self._counter.weigh(self._model.document_prefix + part)

    def _parts(self, text: str) -> list[str]:
        if self._splitter is None or self._splitter.fits(text):
            return [text]
        try:
            return self._splitter.split(text)
        except SplitFailed:
            return [text]

    def estimate(self, limits: Limits, call_seconds: float | None) -> Estimate:
        """The sum, and how long it would take under ``limits``; ``call_seconds`` of one call, if known."""
        model, tokens = self._model, ceil(self._tokens)
        requests = max(ceil(self._texts / model.inputs), ceil(tokens / model.max_request_tokens))
        times: dict[str, float] = {}
        if limits.requests_per_minute:
            times["requests_per_minute"] = 60 * requests / limits.requests_per_minute
        if limits.tokens_per_minute:
            times["tokens_per_minute"] = 60 * tokens / limits.tokens_per_minute
        if call_seconds is not None:
            times["max_concurrency"] = call_seconds * ceil(requests / limits.max_concurrency)
        slowest = max(times, key=lambda name: times[name], default=None)
        price = model.usd_per_million_tokens
        return Estimate(
            collection=self._collection.name,
            model=model.id,
            items=self._items,
            unchanged=self._unchanged,
            deletes=self._deletes,
            bad_lines=self.bad_lines,
            too_long=self._too_long,
            texts=self._texts,
            tokens=tokens,
            is_exact=self._counter.is_exact,
            requests=requests,
            dollars=None if price is None else cost_of(tokens, price),
            seconds=None if slowest is None else times[slowest],
            rests_on=slowest,
        )
