"""A pass through both sides: differences are counted, and mended where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from embedq_worker.errors import SourceError
from embedq_worker.store.collection import Collection
from embedq_worker.store.reconcile.differences import (
    Difference,
    Digest,
    Kind,
    Left,
    Letter,
    Repair,
    difference,
    repair,
)
from embedq_worker.store.reconcile.pairs import Pair, pairs
from embedq_worker.store.reconcile.sides import Sides

_AT_ONCE = 500
"""Differences that are looked at, and mended, at a time."""
_CHARACTERS = 4 << 20
"""Of their texts: so many end a batch sooner."""
_STEP = 1_000
"""Ids between two steps of the bar."""

Mend = Callable[[Sequence[Repair]], None]


class Tally(msgspec.Struct):
    """What a pass found, in ids."""

    wanted: int = 0
    """Ids with a text in the source."""
    current: int = 0
    """Those of them that are stored as they are."""
    missing: int = 0
    stale: int = 0
    other_metadata: int = 0
    orphaned: int = 0
    on_its_way: int = 0
    """They differ, and wait in the outbox."""
    dead: int = 0
    """They differ, and the source's text is a dead letter."""
    unfit: int = 0
    """They are missing or stale, and can be no items."""
    ahead: int = 0
    """They differ, and are stored with as high a version as the source gives, or a higher one."""
    kept: int = 0
    """Orphans that are to stay."""

    @property
    def to_mend(self) -> int:
        """Ids that a repair mends."""
        return self.missing + self.stale + self.other_metadata + self.orphaned

    def add(self, kind: Kind | Left) -> None:
        """One more of a kind."""
        setattr(self, kind.value, getattr(self, kind.value) + 1)


class Comparing:
    """Compares one collection with its source. With ``keep_orphans`` nothing is deleted."""

    def __init__(
        self, sides: Sides, collection: Collection, digest: Digest, *, keep_orphans: bool = False
    ) -> None:
        self._sides = sides
        self._versions = collection.versions
        self._digest = digest
        self._keep_orphans = keep_orphans

    def run(self, advance: Callable[[int], None], mend: Mend | None = None) -> Tally:
        """Go through every id; ``advance`` is told how many are done, ``mend`` given the repairs.

        Raises ``SourceError``, also for a source without any text, ``StoreError``, and what ``mend`` raises.
        """
        tally = Tally()
        for batch in _batches(self._differences(tally, advance)):
            self._settle(batch, tally, mend)
        return tally

    def _differences(self, tally: Tally, advance: Callable[[int], None]) -> Iterator[Difference]:
        for number, pair in enumerate(self._pairs(), 1):
            tally.wanted += pair[0] is not None
            found = difference(pair, self._digest, with_metadata=self._sides.compare_metadata)
            if found is not None:
                yield found
            elif pair[0] is not None:
                tally.current += 1
            if number % _STEP == 0:
                advance(number)

    def _pairs(self) -> Iterator[Pair]:
        """An empty source is a mistake more often than it is meant, and would delete everything."""
        wanted = self._sides.wanted()
        first = next(wanted, None)
        if first is None:
            raise SourceError(
                "the source has no text at all, and nothing was done; if the collection is to be empty, "
                "drop it with `embedq collection drop`"
            )
        return pairs(chain([first], wanted), self._sides.held())

    def _settle(self, batch: Sequence[Difference], tally: Tally, mend: Mend | None) -> None:
        """Count a batch, and mend what of it can be mended."""
        batch = self._confirmed(batch, tally)
        ids = [found.id for found in batch]
        on_their_way, letters = self._sides.on_their_way(ids), self._sides.letters(ids)
        repairs: list[Repair] = []
        for found in batch:
            mended = (
                Left.ON_ITS_WAY if found.id in on_their_way else self._repair(found, letters.get(found.id))
            )
            tally.add(found.kind if isinstance(mended, Repair) else mended)
            if isinstance(mended, Repair):
                repairs.append(mended)
        if repairs and mend is not None:
            mend(repairs)

    def _confirmed(self, batch: Sequence[Difference], tally: Tally) -> list[Difference]:
        """Metadata of other hashes may be equal all the same: ``1`` and ``1.0``."""
        suspects = [found.wanted for found in batch if found.kind is Kind.OTHER_METADATA and found.wanted]
        others = self._sides.other_metadata(suspects) if suspects else set()
        tally.current += len(suspects) - len(others)
        return [found for found in batch if found.kind is not Kind.OTHER_METADATA or found.id in others]

    def _repair(self, found: Difference, letter: Letter | None) -> Repair | Left:
        if found.kind is Kind.ORPHANED and self._keep_orphans:
            return Left.KEPT
        return repair(found, letter, self._versions, self._digest)


def _batches(differences: Iterable[Difference]) -> Iterator[list[Difference]]:
    batch: list[Difference] = []
    characters = 0
    for each in differences:
        batch.append(each)
        characters += 0 if each.wanted is None else len(each.wanted.text)
        if len(batch) >= _AT_ONCE or characters >= _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
