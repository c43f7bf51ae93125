"""What differs between a source and what is held, and what mends it: pure logic."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from embedq.contract import MAX_ID_LENGTH, MAX_MESSAGE_BYTES, Versions
from embedq_worker.errors import SourceError
from embedq_worker.store.reconcile.pairs import Held, Pair, Wanted

Digest = Callable[[str], bytes]
"""The engine's content hash of a text."""


class Kind(StrEnum):
    """How an id differs."""

    MISSING = "missing"
    """The source has a text, and no vector is stored."""
    STALE = "stale"
    """The vector that is stored is another text's."""
    OTHER_METADATA = "other_metadata"
    """The text's vector is stored, beside other metadata."""
    ORPHANED = "orphaned"
    """Vectors are stored, and the source has no text."""


class Left(StrEnum):
    """Why an id that differs is left as it is."""

    ON_ITS_WAY = "on_its_way"
    """It waits in the outbox."""
    DEAD = "dead"
    """This very text is a dead letter."""
    UNFIT = "unfit"
    """No item can be so: its id is empty or too long, or no message holds its text."""
    AHEAD = "ahead"
    """What is stored has as high a version as the source gives, or a higher one."""
    KEPT = "kept"
    """It is an orphan, and orphans are to stay."""


class Letter(NamedTuple):
    """The newest dead letter of an id."""

    version: int
    text: str | None
    """None where it is not kept any more, and of a delete."""


class Difference(NamedTuple):
    """An id that differs."""

    kind: Kind
    id: str
    wanted: Wanted | None
    held: Held | None
    content_hash: bytes
    """Of the wanted text; empty for an orphan."""

    @property
    def is_hollow(self) -> bool:
        """Whether the ledger says that this text is stored, and its rows are gone: until it forgets the text,
        whoever brings it is told that nothing changed."""
        return self.kind is Kind.MISSING and self.held is not None and not self.held.is_deleted


class Repair(NamedTuple):
    """An item to enqueue; without a text it deletes."""

    id: str
    version: int
    text: str | None
    metadata: str | None
    forgets: int | None
    """The version whose text the ledger forgets first."""


def difference(pair: Pair, digest: Digest, *, with_metadata: bool = False) -> Difference | None:
    """How an id differs; None where it does not. Of metadata the hashes are compared."""
    wanted, held = pair
    if wanted is None:
        is_gone = held is None or (held.is_deleted and held.is_whole)
        return None if is_gone or held is None else Difference(Kind.ORPHANED, held.id, None, held, b"")
    content_hash = digest(wanted.text)
    kind = _kind(held, content_hash)
    if kind is None and with_metadata and held is not None and held.metadata_hash != wanted.metadata_hash:
        kind = Kind.OTHER_METADATA
    return None if kind is None else Difference(kind, wanted.id, wanted, held, content_hash)


def _kind(held: Held | None, content_hash: bytes) -> Kind | None:
    """Of an id that is wanted."""
    if held is None or held.is_deleted:
        return Kind.MISSING
    if held.content_hash != content_hash:
        return Kind.STALE
    return None if held.is_whole else Kind.MISSING


def repair(found: Difference, letter: Letter | None, versions: Versions, digest: Digest) -> Repair | Left:
    """What mends a difference, or why nothing does.

    Raises ``SourceError`` where the source gives no version and the collection takes no other.
    """
    if letter is not None and _has_died(found, letter, digest):
        return Left.DEAD
    if found.wanted is not None and not _is_fit(found.wanted):
        return Left.UNFIT
    version = _next_version(found, letter)
    if versions == "given" and found.wanted is not None:
        version = _given_version(found.wanted)
        if not _passes(found, version):
            return Left.AHEAD
    wanted, held = found.wanted, found.held
    forgets = held.version if held is not None and found.is_hollow else None
    if wanted is None:
        return Repair(found.id, version, None, None, None)
    return Repair(found.id, version, wanted.text, wanted.metadata, forgets)


def _held_version(found: Difference) -> int:
    return 0 if found.held is None or found.held.version is None else found.held.version


def _has_died(found: Difference, letter: Letter, digest: Digest) -> bool:
    is_newer = found.held is None or letter.version > _held_version(found)
    return is_newer and letter.text is not None and digest(letter.text) == found.content_hash


def _is_fit(wanted: Wanted) -> bool:
    """Whether it can be an item. If not, its dead letter would lack the text, or a part of the id."""
    return 0 < len(wanted.id) <= MAX_ID_LENGTH and len(wanted.text.encode()) <= MAX_MESSAGE_BYTES


def _next_version(found: Difference, letter: Letter | None) -> int:
    """One more than whatever is known: also than that of a letter, so that replaying it changes nothing."""
    return 1 + max(_held_version(found), 0 if letter is None else letter.version)


def _given_version(wanted: Wanted) -> int:
    if wanted.version is None:
        raise SourceError(
            f"the source gives item {wanted.id!r} no version, and the collection takes the caller's; "
            "add a column version"
        )
    return wanted.version


def _passes(found: Difference, version: int) -> bool:
    """Whether the ledger will let such an item pass."""
    held = found.held
    if held is None or held.version is None or found.is_hollow:
        return held is None or version >= _held_version(found)
    return (version, found.content_hash) > (held.version, held.content_hash or b"")
