"""What became of every id, after Jepsen's total-queue checker: pure logic.

``asked`` is what the producers did, ``found`` what is in the database when nothing is queued or in hand any
more. Each id gets one of these, and each dead letter and row is accounted for:

* **ok**: its newest promised version is what is stored; of a delete, that nothing is.
* **lost**: it was promised, and neither it nor anything of its id is there, nor is it a dead letter.
* **stale**: something older than its newest promised version is there, a deleted id for one.
* **recovered**: a newer version is there whose enqueue raised, so that it was not promised.
* **unexpected**: stored or dead though nobody asked for that.
* **duplicated**: it has more than one row.
* **wrong vector**: its row's vector is not that of its row's text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedq.testing import vector_of

Key = tuple[str, str]
"""Collection and id."""


class Write(NamedTuple):
    """One version of an id. Without a text it deletes; a ``poison`` text is one that the API refuses."""

    collection: str
    id: str
    version: int
    text: str | None
    poison: bool = False

    @property
    def key(self) -> Key:
        """Collection and id."""
        return self.collection, self.id


class Asked(NamedTuple):
    """A write that was enqueued; ``promised`` if an enqueue of it returned."""

    write: Write
    promised: bool


class Stored(NamedTuple):
    """A row of a collection."""

    key: Key
    version: int
    content: str
    vector: NDArray[np.float32]
    stored_at: float = 0.0
    """When its transaction began, seconds since the epoch."""


class Held(NamedTuple):
    """An entry of the ledger."""

    version: int
    deleted: bool


class Letter(NamedTuple):
    """A dead letter; of a message that is no job it has neither id nor version."""

    key: tuple[str | None, str | None]
    version: int | None
    code: str


@dataclass(frozen=True)
class Found:
    """What is in the database."""

    rows: Sequence[Stored]
    ledger: Mapping[Key, Held]
    letters: Sequence[Letter]


@dataclass
class Verdict:
    """How many ids are ok, and each finding in words."""

    ok: int = 0
    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    wrong_vector: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Every broken promise."""
        kinds = ("lost", "stale", "unexpected", "duplicated", "wrong_vector")
        return [f"{kind.replace('_', ' ')}: {finding}" for kind in kinds for finding in getattr(self, kind)]


def check(asked: Iterable[Asked], found: Found) -> Verdict:
    """Hold what is there against what was promised."""
    verdict = Verdict()
    by_key: defaultdict[Key, dict[int, Asked]] = defaultdict(dict)
    for each in asked:
        by_key[each.write.key][each.write.version] = each
    rows: defaultdict[Key, list[Stored]] = defaultdict(list)
    for row in found.rows:
        rows[row.key].append(row)
    dead = _check_letters(by_key, found.letters, verdict)
    for key in by_key.keys() | rows.keys() | found.ledger.keys():
        one = _Id(key, by_key.get(key, {}), rows.get(key, []), found.ledger.get(key), dead, verdict)
        one.check()
    return verdict


def _check_letters(
    asked: Mapping[Key, Mapping[int, Asked]], letters: Iterable[Letter], verdict: Verdict
) -> set[tuple[Key, int]]:
    """What is a dead letter; one that is not of poison is a finding."""
    dead: set[tuple[Key, int]] = set()
    for letter in letters:
        collection, item_id = letter.key
        if collection is not None and item_id is not None and letter.version is not None:
            dead.add(((collection, item_id), letter.version))
            known = asked.get((collection, item_id), {}).get(letter.version)
            if known is not None and known.write.poison:
                continue
        verdict.unexpected.append(
            f"{collection}/{item_id} version {letter.version} is a dead letter ({letter.code})"
        )
    return dead


@dataclass
class _Id:
    """One id: what was asked of it, and what is there."""

    key: Key
    asked: Mapping[int, Asked]
    rows: Sequence[Stored]
    held: Held | None
    dead: set[tuple[Key, int]]
    verdict: Verdict

    def check(self) -> None:
        """Add it to the verdict."""
        if len(self.rows) > 1:
            self._find(self.verdict.duplicated, f"has {len(self.rows)} rows")
        for row in self.rows:
            if not np.array_equal(row.vector, vector_of(row.content, len(row.vector))):
                self._find(self.verdict.wrong_vector, f"version {row.version} has the vector of another text")
        version = self._version()
        if not self._is_known(version):
            self._find(self.verdict.unexpected, f"version {version} is stored and was never enqueued so")
        elif self._contradicts_ledger():
            pass
        elif self._poison_is_dead(version):
            self._judge(version, self._newest())

    def _version(self) -> int | None:
        """What is there: a row's version, or a tombstone's."""
        if self.rows:
            return self.rows[0].version
        return self.held.version if self.held is not None else None

    def _newest(self) -> int | None:
        """The newest version that has to be there."""
        promised = [
            version for version, each in self.asked.items() if each.promised and not each.write.poison
        ]
        return max(promised, default=None)

    def _is_known(self, version: int | None) -> bool:
        """Whether it says what was enqueued with this version."""
        if version is None:
            return True
        asked = self.asked.get(version)
        if asked is None or asked.write.poison:
            return False
        if self.rows:
            return asked.write.text == self.rows[0].content
        return self.held is None or (asked.write.text is None) == self.held.deleted

    def _contradicts_ledger(self) -> bool:
        """Whether ledger and rows say different things, which is a finding."""
        held = self.held
        if self.rows:
            row = self.rows[0]
            if held is not None and held.deleted:
                self._find(
                    self.verdict.stale, f"is deleted by version {held.version}, and {row.version} is there"
                )
            elif held is None or held.version != row.version:
                self._find(self.verdict.unexpected, f"version {row.version} is not what the ledger has")
            else:
                return False
            return True
        if held is not None and not held.deleted:
            self._find(self.verdict.lost, f"version {held.version} is in the ledger and has no row")
            return True
        return False

    def _poison_is_dead(self, version: int | None) -> bool:
        """Whether every refused text is a dead letter, or something newer is there."""
        for number, each in self.asked.items():
            is_over = (self.key, number) in self.dead or (version is not None and version > number)
            if each.promised and each.write.poison and not is_over:
                self._find(self.verdict.lost, f"version {number} is not a dead letter")
                return False
        return True

    def _judge(self, version: int | None, newest: int | None) -> None:
        is_missing = newest is not None and (version is None or version < newest)
        if is_missing and (self.key, newest) in self.dead:
            pass  # an innocent's dead letter is a finding of its own
        elif version is None and newest is not None:
            self._find(self.verdict.lost, f"version {newest} was promised and nothing is there")
        elif version is not None and newest is not None and version < newest:
            self._find(self.verdict.stale, f"version {newest} was promised and {version} is there")
        elif version == newest:
            self.verdict.ok += 1
        else:
            self._find(self.verdict.recovered, f"version {version} is there though its enqueue raised")

    def _find(self, findings: list[str], what: str) -> None:
        findings.append(f"{self.key[0]}/{self.key[1]}: {what}")
