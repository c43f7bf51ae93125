"""Texts of about 110 tokens (540 characters), all different, the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator

_WORDS = (
    *("lease", "queue", "worker", "vector", "index", "batch", "limit", "token", "model", "retry", "fetch"),
    *("commit", "ledger", "item", "lane", "message", "broker", "answer", "request", "version", "table"),
    *("column", "update", "delete", "search", "cluster", "distance", "neighbour", "embedding", "server"),
    *("process", "memory", "signal", "window", "budget", "breaker", "probe", "record", "timeout", "schema"),
)
CHARACTERS = 540


def texts(count: int, seed: int = 0) -> Iterator[str]:
    """``count`` texts."""
    words = random.Random(seed)
    for number in range(count):
        parts = [f"{seed}-{number}:"]
        length = len(parts[0])
        while length < CHARACTERS:
            parts.append(words.choice(_WORDS))
            length += len(parts[-1]) + 1
        yield " ".join(parts)[:CHARACTERS]
