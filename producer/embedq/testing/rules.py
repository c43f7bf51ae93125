"""Which calls a fault hits."""

from __future__ import annotations

import random
from typing import Annotated

import msgspec
from msgspec import Meta

from embedq.testing.faults import AnyFault, Fault
from embedq.testing.wire import Asked


class Rule(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which calls a fault hits: those that meet every condition that is given."""

    fault: AnyFault
    model: str | None = None
    """Calls of this model."""
    marker: str | None = None
    """Calls with a text that contains this."""
    probability: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int = 0
    """Of ``probability``'s draws."""
    next_calls: Annotated[int, Meta(ge=1)] | None = None
    """The first so many of the calls that meet the rest."""


class ArmedRule:
    """A rule at work: counts its calls down and draws its numbers."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._left = rule.next_calls
        self._random = random.Random(rule.seed)  # noqa: S311 -- replayable, nothing secret

    def hits(self, asked: Asked) -> Fault | None:
        """The fault, if this call gets it."""
        rule = self._rule
        if self._left == 0 or (rule.model is not None and rule.model != asked.model):
            return None
        if rule.marker is not None and not any(rule.marker in text for text in asked.texts):
            return None
        if rule.probability is not None and self._random.random() >= rule.probability:
            return None
        if self._left is not None:
            self._left -= 1
        return rule.fault
