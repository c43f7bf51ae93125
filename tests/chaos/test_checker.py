"""The checker's verdicts: each finding once, and none where everything is as it was promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.testing import vector_of
from tests.chaos.checker import Asked, Found, Held, Key, Letter, Stored, Verdict, Write, check

DIMENSIONS = 8


def put(item_id: str, version: int, *, poison: bool = False) -> Write:
    """A write of a text that no other has."""
    return Write("docs", item_id, version, f"{item_id} {version}", poison)


def delete(item_id: str, version: int) -> Write:
    """A delete."""
    return Write("docs", item_id, version, None)


def row(write: Write) -> Stored:
    """The row that a write leaves."""
    assert write.text is not None
    return Stored(write.key, write.version, write.text, vector_of(write.text, DIMENSIONS))


def ledger(*writes: Write) -> dict[Key, Held]:
    """The ledger after these."""
    return {write.key: Held(write.version, write.text is None) for write in writes}


def found(there: Iterable[Write] = (), letters: Iterable[Write] = ()) -> Found:
    """A database in which each of these is the last of its id, and those are dead letters."""
    writes = list(there)
    return Found(
        rows=[row(write) for write in writes if write.text is not None],
        ledger=ledger(*writes),
        letters=[Letter(write.key, write.version, "bad_input") for write in letters],
    )


def promised(*writes: Write) -> list[Asked]:
    """Enqueues that returned."""
    return [Asked(write, promised=True) for write in writes]


def counts(verdict: Verdict) -> dict[str, int]:
    """What is not zero."""
    figures = {
        name: len(value) if isinstance(value, list) else value for name, value in vars(verdict).items()
    }
    return {name: figure for name, figure in figures.items() if figure}


@pytest.mark.parametrize(
    ("asked", "there", "expected"),
    [
        (promised(put("a", 1), put("a", 2)), found([put("a", 2)]), {"ok": 1}),
        (promised(put("a", 1), delete("a", 2)), found([delete("a", 2)]), {"ok": 1}),
        (promised(put("a", 1, poison=True)), found(letters=[put("a", 1)]), {"ok": 1}),
        (promised(put("a", 1, poison=True), put("a", 2)), found([put("a", 2)]), {"ok": 1}),
        (promised(put("a", 1)), found(), {"lost": 1}),
        (promised(put("a", 1, poison=True)), found(), {"lost": 1}),
        (promised(put("a", 1), put("a", 2, poison=True)), found([put("a", 1)]), {"lost": 1}),
        (promised(delete("a", 1)), found(), {"lost": 1}),
        (promised(put("a", 1)), Found([], ledger(put("a", 1)), []), {"lost": 1}),
        (promised(put("a", 1), put("a", 2)), found([put("a", 1)]), {"stale": 1}),
        (promised(put("a", 1), delete("a", 2)), found([put("a", 1)]), {"stale": 1}),
        (
            promised(put("a", 1), delete("a", 2)),
            Found([row(put("a", 1))], ledger(delete("a", 2)), []),
            {"stale": 1},
        ),
        (promised(put("a", 2), delete("a", 1)), found([delete("a", 1)]), {"stale": 1}),
        ([], found([put("a", 1)]), {"unexpected": 1}),
        ([], found(letters=[put("a", 1)]), {"unexpected": 1}),
        (promised(put("a", 1)), found([put("a", 2)]), {"unexpected": 1}),
        (promised(put("a", 1)), found([put("a", 1)], [put("a", 1)]), {"ok": 1, "unexpected": 1}),
        (promised(put("a", 1)), found(letters=[put("a", 1)]), {"unexpected": 1}),
        (promised(put("a", 1), put("a", 2)), found([put("a", 1)], [put("a", 2)]), {"unexpected": 1}),
        (promised(put("a", 1, poison=True)), found([put("a", 1)]), {"unexpected": 1}),
        (promised(put("a", 1)), Found([row(put("a", 1))], {}, []), {"unexpected": 1}),
        (promised(put("a", 1)), found([delete("a", 1)]), {"unexpected": 1}),
        (promised(delete("a", 1)), found([put("a", 1)]), {"unexpected": 1}),
        (
            promised(put("a", 1)),
            Found([row(put("a", 1))], ledger(put("a", 1)), [Letter((None, None), None, "not_a_job")]),
            {"ok": 1, "unexpected": 1},
        ),
        (
            promised(put("a", 1)),
            Found([row(put("a", 1))] * 2, ledger(put("a", 1)), []),
            {"ok": 1, "duplicated": 1},
        ),
        (
            promised(put("a", 1)),
            Found([row(put("a", 1))._replace(vector=vector_of("b 1", DIMENSIONS))], ledger(put("a", 1)), []),
            {"ok": 1, "wrong_vector": 1},
        ),
        ([*promised(put("a", 1)), Asked(put("a", 2), False)], found([put("a", 2)]), {"recovered": 1}),
        ([*promised(put("a", 1)), Asked(put("a", 2), False)], found([put("a", 1)]), {"ok": 1}),
        ([*promised(put("a", 1)), Asked(delete("a", 2), False)], found([delete("a", 2)]), {"recovered": 1}),
        ([Asked(put("a", 1), False)], found([put("a", 1)]), {"recovered": 1}),
        ([Asked(put("a", 1), False)], found(), {"ok": 1}),
        ([Asked(put("a", 1, poison=True), False)], found(), {"ok": 1}),
    ],
)  # fmt: skip
def test_verdicts(asked: list[Asked], there: Found, expected: dict[str, int]) -> None:
    """What was asked, what is there, and what that is called."""
    assert counts(check(asked, there)) == expected


def test_findings_are_told() -> None:
    """Each names its id and says what is wrong; what is not wrong is not among the broken promises."""
    asked = [*promised(put("a", 1), put("b", 1), put("b", 2)), Asked(put("c", 1), False)]
    verdict = check(asked, found([put("b", 1), put("c", 1)]))
    assert verdict.broken == [
        "lost: docs/a: version 1 was promised and nothing is there",
        "stale: docs/b: version 2 was promised and 1 is there",
    ]
    assert verdict.recovered == ["docs/c: version 1 is there though its enqueue raised"]


class Store:
    """A service that keeps its promises: what arrives is stored where nothing newer is."""

    def __init__(self) -> None:
        self.last: dict[Key, Write] = {}
        self.letters: list[Write] = []

    def take(self, write: Write) -> None:
        """One write arrives, perhaps again."""
        held = self.last.get(write.key)
        if held is not None and held.version >= write.version:
            return
        if write.poison:
            self.letters.append(write)
        else:
            self.last[write.key] = write


KINDS = st.sampled_from(["put", "put", "put", "delete", "poison"])
VERSIONS = st.dictionaries(st.integers(0, 9), st.tuples(KINDS, st.booleans(), st.booleans()), min_size=1)
"""By version: the kind, whether its enqueue returned, and whether one that raised arrived."""
LOADS = st.dictionaries(st.sampled_from("abcdef"), VERSIONS, min_size=1)


def written(item_id: str, version: int, kind: str) -> Write:
    """A write of that kind."""
    return delete(item_id, version) if kind == "delete" else put(item_id, version, poison=kind == "poison")


def played(
    load: dict[str, dict[int, tuple[str, bool, bool]]], shuffle: st.DataObject
) -> tuple[list[Asked], Store]:
    """Enqueue a load; what arrives does so in any order, some of it twice."""
    asked, arriving = [], []
    for item_id, versions in load.items():
        for version, (kind, returned, arrived) in versions.items():
            write = written(item_id, version, kind)
            asked.append(Asked(write, returned))
            arriving += [write] * (2 if returned and arrived else int(returned or arrived))
    store = Store()
    for write in shuffle.draw(st.permutations(arriving)):
        store.take(write)
    return asked, store


@given(LOADS, st.data())
def test_a_service_that_keeps_its_promises(
    load: dict[str, dict[int, tuple[str, bool, bool]]], data: st.DataObject
) -> None:
    """Whatever arrives in whatever order: nothing is broken, and every id is accounted for."""
    asked, store = played(load, data)
    verdict = check(asked, found(store.last.values(), store.letters))
    assert verdict.broken == []
    assert verdict.ok + len(verdict.recovered) == len(load)


@given(LOADS, st.data())
def test_a_service_that_forgets_an_id(
    load: dict[str, dict[int, tuple[str, bool, bool]]], data: st.DataObject
) -> None:
    """Everything of one id is gone: it is lost, if anything of it was promised."""
    asked, store = played(load, data)
    gone = data.draw(st.sampled_from(sorted(load)))
    last = [write for write in store.last.values() if write.id != gone]
    letters = [write for write in store.letters if write.id != gone]
    verdict = check(asked, found(last, letters))
    has_promise = any(each.promised for each in asked if each.write.id == gone)
    assert [finding.partition(":")[0] for finding in verdict.lost] == (
        [f"docs/{gone}"] if has_promise else []
    )


@given(LOADS, st.data())
def test_a_service_without_a_guard_of_versions(
    load: dict[str, dict[int, tuple[str, bool, bool]]], data: st.DataObject
) -> None:
    """One id has an older version than the newest promised one: it is stale."""
    asked, store = played(load, data)
    newest: defaultdict[Key, int] = defaultdict(int)
    for each in asked:
        if each.promised and not each.write.poison:
            newest[each.write.key] = max(newest[each.write.key], each.write.version)
    older = [
        each.write for each in asked if not each.write.poison and each.write.version < newest[each.write.key]
    ]
    if not older:
        return
    victim = data.draw(st.sampled_from(older))
    store.last[victim.key] = victim
    letters = [*store.letters, *(each.write for each in asked if each.promised and each.write.poison)]
    verdict = check(asked, found(store.last.values(), letters))
    assert [finding.partition(":")[0] for finding in verdict.stale] == [f"docs/{victim.id}"]


def test_vectors_are_held_against_every_row() -> None:
    """A vector that is off by one bit is another text's."""
    write = put("a", 1)
    vector = vector_of(write.text or "", DIMENSIONS).copy()
    vector[3] = np.nextafter(vector[3], np.float32(2))
    there = Found([row(write)._replace(vector=vector)], {write.key: Held(1, False)}, [])
    assert len(check(promised(write), there).wrong_vector) == 1
