"""Reconciling: the join of the two sides, what differs, and what mends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.engine.work import content_hash
from embedq_worker.errors import SourceError
from embedq_worker.store.reconcile.differences import (
    Difference,
    Kind,
    Left,
    Letter,
    Repair,
    difference,
    repair,
)
from embedq_worker.store.reconcile.pairs import Held, Wanted, pairs

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
A, B = content_hash("a"), content_hash("b")


def want(item_id: str = "1", text: str = "a", version: int | None = None) -> Wanted:
    """A row of a source."""
    return Wanted(item_id, text, None, version)


def hold(
    item_id: str = "1",
    digest: bytes | None = A,
    version: int | None = 5,
    *,
    deleted: bool = False,
    whole: bool = True,
) -> Held:
    """What is stored of an id."""
    return Held(item_id, version, digest, deleted, whole)


@given(st.sets(IDS), st.sets(IDS))
def test_every_id_of_either_side_comes_once(wanted: set[str], held: set[str]) -> None:
    """In byte order, with what each side has of it."""
    sides = pairs(map(want, sorted(wanted, key=str.encode)), map(hold, sorted(held, key=str.encode)))
    found = [(left and left.id, right and right.id) for left, right in sides]
    expected = [
        (each if each in wanted else None, each if each in held else None)
        for each in sorted(wanted | held, key=str.encode)
    ]
    assert found == expected


def test_neither_side_is_read_ahead() -> None:
    """By more than one: millions of rows take no memory."""
    wanted, held = iter([want("0"), want("1")]), iter([hold("0"), hold("1")])
    next(pairs(wanted, held))
    assert (next(wanted).id, next(held).id) == ("1", "1")


@pytest.mark.parametrize("ids", ["aa", "aba", "ba"])
def test_an_id_that_comes_twice_is_an_error(ids: str) -> None:
    """Which text is the item's cannot be said."""
    with pytest.raises(SourceError, match="twice"):
        list(pairs(map(want, ids), iter(())))


@pytest.mark.parametrize(
    ("wanted", "held", "kind"),
    [
        (want(), hold(), None),
        (want(), None, Kind.MISSING),
        (want(), hold(digest=b"", deleted=True), Kind.MISSING),
        (want(), hold(whole=False), Kind.MISSING),
        (want(), hold(digest=B), Kind.STALE),
        (want(), hold(digest=B, whole=False), Kind.STALE),
        (want(), hold(digest=None, version=None, whole=False), Kind.STALE),
        (None, hold(), Kind.ORPHANED),
        (None, hold(whole=False), Kind.ORPHANED),
        (None, hold(digest=None, version=None, whole=False), Kind.ORPHANED),
        (None, hold(digest=b"", deleted=True), None),
        (None, hold(digest=b"", deleted=True, whole=False), Kind.ORPHANED),
    ],
)
def test_what_differs(wanted: Wanted | None, held: Held | None, kind: Kind | None) -> None:
    """Of each that a source and a ledger may say of an id."""
    found = difference((wanted, held), content_hash)
    assert (found and found.kind) == kind


def differing(wanted: Wanted | None, held: Held | None) -> Difference:
    """A difference that there is."""
    found = difference((wanted, held), content_hash)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("wanted", "held", "letter", "mended"),
    [
        (want(), None, None, Repair("1", 1, "a", None, None)),
        (want(), hold(digest=b"", deleted=True), None, Repair("1", 6, "a", None, None)),
        (want(), hold(digest=B), None, Repair("1", 6, "a", None, None)),
        (want(), hold(whole=False), None, Repair("1", 6, "a", None, 5)),
        (None, hold(), None, Repair("1", 6, None, None, None)),
        (None, hold(digest=None, version=None, whole=False), None, Repair("1", 1, None, None, None)),
        # This very text has died since; or another has, or it died before what is stored.
        (want(), hold(digest=B), Letter(7, "a"), Left.DEAD),
        (want(), None, Letter(7, "a"), Left.DEAD),
        (want(), hold(digest=B), Letter(7, "b"), Repair("1", 8, "a", None, None)),
        (want(), hold(digest=B), Letter(7, None), Repair("1", 8, "a", None, None)),
        (want(), hold(digest=B), Letter(3, "a"), Repair("1", 6, "a", None, None)),
        (None, hold(), Letter(7, None), Repair("1", 8, None, None, None)),
    ],
)
def test_what_mends_it(
    wanted: Wanted | None, held: Held | None, letter: Letter | None, mended: Repair | Left
) -> None:
    """With a version above all that is known of the id, and far below what the clock gives."""
    assert repair(differing(wanted, held), letter, "clock", content_hash) == mended


@pytest.mark.parametrize(
    ("wanted", "is_fit"),
    [
        (want("x" * 512), True),
        (want("x" * 513), False),
        (want(""), False),
        (want(text="é" * (1 << 19)), True),
        (want(text="é" * (1 << 19) + "."), False),
    ],
)
def test_what_can_be_no_item_is_left(wanted: Wanted, is_fit: bool) -> None:
    """Its dead letter would not be known again: the id is cut there, or the text left out."""
    mended = repair(differing(wanted, None), None, "clock", content_hash)
    assert mended is Left.UNFIT if not is_fit else isinstance(mended, Repair)


@pytest.mark.parametrize(("version", "passes"), [(6, True), (5, False)])
def test_other_metadata_alone_are_mended(version: int, passes: bool) -> None:
    """The ledger goes on knowing the text, so that nothing is paid."""
    pair = want(version=version), hold()._replace(metadata_hash=1)
    assert difference(pair, content_hash) is None
    found = difference(pair, content_hash, with_metadata=True)
    assert found is not None
    assert repair(found, None, "clock", content_hash) == Repair("1", 6, "a", None, None)
    mended = repair(found, None, "given", content_hash)
    assert mended == (Repair("1", version, "a", None, None) if passes else Left.AHEAD)
    assert repair(found, Letter(7, "a"), "clock", content_hash) is Left.DEAD


@pytest.mark.parametrize(
    ("version", "digest", "whole", "passes"),
    [
        (6, B, True, True),
        (5, b"\0", True, True),
        (5, b"\xff", True, False),
        (4, B, True, False),
        (5, A, False, True),
    ],
)
def test_given_versions_are_the_sources(version: int, digest: bytes, whole: bool, passes: bool) -> None:
    """Where the ledger would not let one pass, nothing is enqueued."""
    found = differing(want(version=version), hold(digest=digest, whole=whole))
    mended = repair(found, None, "given", content_hash)
    assert mended == (Repair("1", version, "a", None, None if whole else 5) if passes else Left.AHEAD)


def test_given_versions_are_needed() -> None:
    """Another than the caller's would come between the caller's."""
    with pytest.raises(SourceError, match="no version"):
        repair(differing(want(), None), None, "given", content_hash)
