"""Short names for why a model is paused, or its slots changed: what is said to people may have any words.

The texts are those of ``errors`` and ``lua/adapt.lua``, also of other versions of embedq; what is not known
is ``other``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

PauseKind = Literal[
    "key",
    "credits",
    "quota",
    "not_found",
    "refused",
    "overloaded",
    "timeout",
    "failing",
    "wrong_answers",
    "other",
]
"""``key``: 401. ``credits``: 402, 403. ``quota``: 429 of an account that is used up. ``not_found``: 404.
``refused``: any other refusal. ``overloaded``: 503. ``timeout``: too slow. ``failing``: any other failure.
``wrong_answers``: not what was asked for."""
ChangeKind = Literal["throttled", "overloaded", "rising", "probing", "probe_refused", "configured", "other"]
"""``throttled``, ``overloaded``: cut after a 429, or a 503 or time-out. ``rising``: slot by slot.
``probing``: more than the ceiling is tried. ``probe_refused``: that was too much. ``configured``: all may be
used again."""
PAUSE_KINDS: tuple[PauseKind, ...] = get_args(PauseKind)
CHANGE_KINDS: tuple[ChangeKind, ...] = get_args(ChangeKind)

_BY_STATUS: Mapping[str, PauseKind] = {
    "401": "key",
    "402": "credits",
    "403": "credits",
    "404": "not_found",
    "429": "quota",
}
_PAUSES: Mapping[str, PauseKind] = {
    "the service answered 503": "overloaded",
    "the service did not answer in time": "timeout",
    "the embeddings API did not answer": "failing",
    "the embeddings API gave a wrong answer": "wrong_answers",
}
_CHANGES: Mapping[str, ChangeKind] = {
    "rising": "rising",
    "more than the ceiling is tried": "probing",
    "more than the ceiling was tried and refused": "probe_refused",
    "the service takes the configured number again": "configured",
}
_REFUSED = re.compile(r"the embeddings API refuses us.*?\((?:status (\d+))?")


def pause_kind(reason: str) -> PauseKind:
    """The kind of a pause."""
    refused = _REFUSED.match(reason)
    if refused:
        return _BY_STATUS.get(refused[1], "refused")
    return next((kind for start, kind in _PAUSES.items() if reason.startswith(start)), "other")


def change_kind(why: str) -> ChangeKind:
    """The kind of a change of slots."""
    if why.startswith("cut from "):
        return "throttled" if "429" in why.partition(":")[2] else "overloaded"
    return next((kind for start, kind in _CHANGES.items() if why.startswith(start)), "other")
