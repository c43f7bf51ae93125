"""What a source wants and what is held of it, joined by id: pure logic.

Both come in the byte order of their ids, which is Python's order of strings and Postgres' collation C.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from embedq_worker.errors import SourceError


class Wanted(NamedTuple):
    """A row of the source that has a text."""

    id: str
    text: str
    metadata: str | None
    """JSON."""
    version: int | None
    """The caller's, of a collection of given versions."""
    metadata_hash: int | None = None
    """64 bits, of their JSON as Postgres writes it; without metadata that of an empty object."""


class Held(NamedTuple):
    """What the ledger and the table hold of an id."""

    id: str
    version: int | None
    """None: rows stand in the table that the ledger knows nothing of."""
    content_hash: bytes | None
    is_deleted: bool
    """Whether it is a tombstone."""
    is_whole: bool
    """Whether the table has the rows, or the vector, that the ledger says; of a tombstone, none."""
    metadata_hash: int | None = None
    """Likewise; None: its rows have several."""


Pair = tuple[Wanted | None, Held | None]
"""Of one id; not both None."""


def pairs(wanted: Iterable[Wanted], held: Iterable[Held]) -> Iterator[Pair]:
    """Every id of either side once, in order. Reads one of each ahead, and no more.

    Raises ``SourceError`` where the source has an id twice.
    """
    left, right = _ascending(wanted), iter(held)
    want, have = next(left, None), next(right, None)
    while want is not None or have is not None:
        if have is None or (want is not None and want.id < have.id):
            yield want, None
            want = next(left, None)
        elif want is None or have.id < want.id:
            yield None, have
            have = next(right, None)
        else:
            yield want, have
            want, have = next(left, None), next(right, None)


def _ascending(wanted: Iterable[Wanted]) -> Iterator[Wanted]:
    before = None
    for each in wanted:
        if before is not None and each.id <= before:
            raise SourceError(
                f"the source has the id {each.id!r} twice: which text is the item's cannot be said; "
                "let each id come once"
            )
        before = each.id
        yield each
