"""What an application does to its own table: planned from the seed alone, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

_ROLLED_BACK = 0.1
_WITH_SAVEPOINT = 0.15
_SAVEPOINT_KEPT = 0.5
_DELETES = 0.25
_REPEATS = 0.1
"""Share of the changes whose text is the same each time: what is stored may be that already."""
_IDS_SHARE = 0.2
"""Ids for each transaction: so that each is written again and again, by many at once."""


class Change(NamedTuple):
    """A row is inserted or updated; without a text it is deleted, if it is there."""

    id: str
    text: str | None


class Savepoint(NamedTuple):
    """Changes that are kept, or rolled back while the transaction goes on."""

    changes: Sequence[Change]
    is_kept: bool


class Transaction(NamedTuple):
    """In the order of its ids, so that no two of them wait for each other in a circle."""

    parts: Sequence[Change | Savepoint]
    commits: bool


def plan(seed: int, transactions: int) -> list[Transaction]:
    """So many transactions, in the order in which they are begun."""
    chance = random.Random(f"outbox {seed}")
    ids = max(4, int(transactions * _IDS_SHARE))
    return [_transaction(number, ids, chance) for number in range(transactions)]


def _transaction(number: int, ids: int, chance: random.Random) -> Transaction:
    """Few ids are changed far more often than the others: a hundredth of them by half of the changes."""
    few = max(1, ids // 100)
    chosen = sorted(
        str(chance.randrange(few if chance.random() < 0.5 else ids))
        for _ in range(chance.choice((1, 1, 1, 2, 4)))
    )
    changes = [_change(item_id, f"{number}.{place}", chance) for place, item_id in enumerate(chosen)]
    commits = chance.random() >= _ROLLED_BACK
    if chance.random() >= _WITH_SAVEPOINT:
        return Transaction(changes, commits)
    at = chance.randrange(len(changes))
    savepoint = Savepoint(changes[at:], chance.random() < _SAVEPOINT_KEPT)
    return Transaction([*changes[:at], savepoint], commits)


def _change(item_id: str, name: str, chance: random.Random) -> Change:
    if chance.random() < _DELETES:
        return Change(item_id, None)
    is_repeat = chance.random() < _REPEATS
    return Change(item_id, f"{item_id} as ever" if is_repeat else f"{item_id} by {name}")
