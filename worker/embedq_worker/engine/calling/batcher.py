"""The batcher: waiting texts of one shape and lane, packed into requests up to the model's limits.

Each collection has a line of its own. Those that are held, for want of money, are set aside: nothing of them
is due. A request is made for the collection whose turn it is, and filled up
from the others in fair turns, so that many small collections share requests and a large one does not hold
them up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil, inf
from typing import Protocol

from embedq_worker.engine.texts import WaitingText
from embedq_worker.limiter import Want


class Limits(Protocol):
    """What of a model the batcher needs to know."""

    @property
    def inputs(self) -> int:
        """Texts in one request."""

    @property
    def max_chars_in_array(self) -> int | None:
        """Characters of a text that shares a request; a longer one goes alone."""


class _Line:
    """The texts of one collection, by arrival; ``alone`` are those too long to share a request."""

    def __init__(self) -> None:
        self.shared: OrderedDict[bytes, WaitingText] = OrderedDict()
        self.alone: OrderedDict[bytes, WaitingText] = OrderedDict()

    def __len__(self) -> int:
        return len(self.shared) + len(self.alone)

    @property
    def firsts(self) -> list[WaitingText]:
        return [next(iter(part.values())) for part in (self.shared, self.alone) if part]

    @property
    def oldest(self) -> float:
        return min(text.arrived for text in self.firsts)


class Batcher:
    """Texts of one shape and lane. ``most_tokens`` of one request may change at any time.

    ``sort_out`` is to be called whenever ``is_held`` says something else of a collection.
    """

    def __init__(
        self,
        limits: Limits,
        most_tokens: float,
        clock: Callable[[], float],
        is_held: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.most_tokens = most_tokens
        self._inputs = limits.inputs
        self._max_characters = limits.max_chars_in_array or inf
        self._clock = clock
        self._is_held = is_held
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._held: dict[str, _Line] = {}
        self._count = 0
        self._tokens = 0
        self._alone = 0

    def __len__(self) -> int:
        """Texts that are not held."""
        return self._count

    def has(self, collection: str) -> bool:
        """Whether texts of a collection wait that are not held."""
        return collection in self._lines

    def add(self, text: WaitingText) -> None:
        """Put a text in its collection's line."""
        name = text.flow.collection
        is_held = self._is_held(name)
        lines = self._held if is_held else self._lines
        line = lines.get(name)
        if line is None:
            line = lines[name] = _Line()
        part = line.alone if text.characters > self._max_characters else line.shared
        part[text.key] = text
        if not is_held:
            self._count += 1
            if part is line.alone:
                self._alone += 1
            else:
                self._tokens += text.tokens

    def sort_out(self) -> None:
        """Set aside the lines that are held by now, and take back those that are not any more."""
        for name in [name for name in self._lines if self._is_held(name)]:
            line = self._held[name] = self._lines.pop(name)
            self._reckon(line, -1)
        for name in [name for name in self._held if not self._is_held(name)]:
            line = self._lines[name] = self._held.pop(name)
            self._reckon(line, 1)

    def _reckon(self, line: _Line, sign: int) -> None:
        self._count += sign * len(line)
        self._alone += sign * len(line.alone)
        self._tokens += sign * sum(text.tokens for text in line.shared.values())

    def remove(self, text: WaitingText) -> bool:
        """Take a text out of its line; whether it was in it."""
        if text.flow.collection in self._held:
            return self._remove_held(text)
        line = self._lines.get(text.flow.collection)
        if line is None:
            return False
        if line.shared.pop(text.key, None) is not None:
            self._took_shared(text, line)
            return True
        if line.alone.pop(text.key, None) is not None:
            self._took_alone(text, line)
            return True
        return False

    def _remove_held(self, text: WaitingText) -> bool:
        line = self._held[text.flow.collection]
        was_there = any(part.pop(text.key, None) is not None for part in (line.shared, line.alone))
        if not line:
            del self._held[text.flow.collection]
        return was_there

    def texts(self) -> list[WaitingText]:
        """Every text that waits, those that are held among them."""
        return [
            text
            for line in (*self._lines.values(), *self._held.values())
            for part in (line.shared, line.alone)
            for text in part.values()
        ]

    @property
    def full(self) -> bool:
        """Whether waiting longer would not make the next request fuller."""
        return bool(self._alone) or self._count >= self._inputs or self._tokens >= self.most_tokens

    @property
    def oldest_wait(self) -> float:
        """Seconds that the oldest text has waited; 0 when nothing waits."""
        if not self._lines:
            return 0.0
        return self._clock() - min(line.oldest for line in self._lines.values())

    def wanted(self) -> dict[str, Want]:
        """The calls that the waiting texts make, and the tokens of each, by collection.

        What is left over by all collections together, after full requests, is counted for the first of them:
        it shares requests. The tokens do for the first text at least, however long it is.
        """
        shared = self._count - self._alone
        average = self._tokens / shared if shared else 1.0
        size = max(1, min(self._inputs, int(self.most_tokens / average)))
        tokens = self._expected_tokens(average, size, shared)
        calls = {name: len(line.alone) + len(line.shared) // size for name, line in self._lines.items()}
        left_over = sum(len(line.shared) % size for line in self._lines.values())
        sharing = ceil(left_over / size)
        for name, line in self._lines.items():
            if not sharing:
                break
            if len(line.shared) % size:
                calls[name] += 1
                sharing -= 1
        return {name: Want(count, max(tokens, self._first_tokens(name))) for name, count in calls.items()}

    def take(self, collection: str, most_tokens: float = inf) -> list[WaitingText]:
        """The next request for a collection, as full as the limits allow; empty when nothing waits.

        ``most_tokens`` of this request, where they are fewer: empty when its first text exceeds them. A text
        that exceeds the batcher's own limit goes alone.
        """
        name = collection if collection in self._lines else next(iter(self._lines), None)
        if name is None:
            return []
        line = self._lines[name]
        first = min(line.firsts, key=lambda text: text.arrived)
        if first.tokens > most_tokens:
            return []
        if first.key in line.alone:
            self._pop_alone(line)
            return [first]
        return self._fill(name, min(self.most_tokens, most_tokens))

    def _fill(self, collection: str, most_tokens: float) -> list[WaitingText]:
        batch: list[WaitingText] = []
        tokens = 0
        for name in [collection, *(other for other in self._lines if other != collection)]:
            line = self._lines[name]
            while line.shared and len(batch) < self._inputs:
                tokens += next(iter(line.shared.values())).tokens
                if batch and tokens > most_tokens:
                    return batch
                self._lines.move_to_end(name)  # only where one is taken: who was passed over stays first
                batch.append(self._pop_shared(line))
            if len(batch) >= self._inputs:
                break
        return batch

    def _expected_tokens(self, average: float, size: int, shared: int) -> int:
        """Of one call. Where tokens are what fills a request, the last ones would go unused else."""
        if shared <= size:
            return self._tokens
        return ceil(self.most_tokens if size < self._inputs else average * size)

    def _first_tokens(self, collection: str) -> int:
        return max(text.tokens for text in self._lines[collection].firsts)

    def _pop_shared(self, line: _Line) -> WaitingText:
        _, text = line.shared.popitem(last=False)
        self._took_shared(text, line)
        return text

    def _pop_alone(self, line: _Line) -> None:
        _, text = line.alone.popitem(last=False)
        self._took_alone(text, line)

    def _took_shared(self, text: WaitingText, line: _Line) -> None:
        self._tokens -= text.tokens
        self._left(text, line)

    def _took_alone(self, text: WaitingText, line: _Line) -> None:
        self._alone -= 1
        self._left(text, line)

    def _left(self, text: WaitingText, line: _Line) -> None:
        self._count -= 1
        if not line:
            del self._lines[text.flow.collection]
