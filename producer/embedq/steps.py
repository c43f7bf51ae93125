"""What the producer's rules ask of whoever runs them: commands for Redis, and pauses.

A rule is a generator. It yields one step after the other, is sent what came of each, and returns its result.
It does no input or output itself, so that the same rules serve threads (``broker.py``) and asyncio
(``async_broker.py``).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from embedq.script import Script

Result = TypeVar("Result")


class Command(NamedTuple):
    """One command; its answer comes back as redis-py reads it. One that ``blocks`` waits in Redis for it."""

    words: tuple[str | bytes | float, ...]
    blocks: bool = False


class Transaction(NamedTuple):
    """Commands that see one moment; the list of their answers comes back."""

    commands: tuple[Command, ...]


class Evaluate(NamedTuple):
    """A script; its answer comes back."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes]


class Pause(NamedTuple):
    """Time that passes for this caller alone."""

    seconds: float


Step: TypeAlias = Command | Transaction | Evaluate | Pause
Steps: TypeAlias = Generator[Step, Any, Result]
