"""Items that arrive are held against the ledger."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from embedq_worker.engine.admission import Admission
from embedq_worker.engine.work import Hold, Outcome, RunningItem, RunningJob, content_hash
from embedq_worker.errors import CollectionGone, ColumnGone
from embedq_worker.store.ledger import Found, Known
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.postgres.outage import Outage
from tests.support.docs_collection import DOCS


class Owner:
    """In place of the pipeline: keeps what it is told."""

    collection = DOCS
    is_dropped = False
    lacks_rights = False

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def embed(self, item: RunningItem) -> None:
        """Its text is new."""
        self.told.append((item.id, "embed"))

    def touch(self, item: RunningItem) -> None:
        """Only its version moves."""
        self.told.append((item.id, "touch"))

    def refuse_rowless(self, item: RunningItem) -> None:
        """There is no row for it."""
        self.told.append((item.id, "rowless"))

    def lose_table(self, item: RunningItem, error: CollectionGone) -> None:
        """There is no table for it."""
        self.told.append((item.id, error.code))


class Admitted:
    """An admission of items of one job, with a ledger that says, or raises, one thing after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *says: Found | Exception) -> None:
        self.owner = Owner()
        self.hold = Hold()
        self.settled: dict[str, int] = {}
        self.admission = Admission(self.owner, cast("Database", SimpleNamespace(outage=Outage())))
        self._says = list(says)
        monkeypatch.setattr("embedq_worker.engine.admission.look_up", self._look_up)

    def add(self, *items: tuple[str, int, str]) -> None:
        """Items by id, version and text."""
        job = RunningJob(len(items), lane="live", source=None, finish=self.settled.update, hold=self.hold)
        for item_id, version, text in items:
            self.admission.add(RunningItem(job, item_id, version, text, None))

    async def admit(self) -> None:
        """What has arrived."""
        async with asyncio.timeout(5):
            await self.admission.admit_next()

    async def _look_up(self, *_: object) -> Found:
        said = self._says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def stored(version: int, text: str, *, deleted: bool = False, has_vector: bool = True) -> Known:
    """What the ledger holds of an id."""
    return Known(version, content_hash(text), deleted, has_vector)


async def test_what_the_ledger_knows_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a text without its vector is paid for; what is done with nothing is settled."""
    known = {
        "newer": stored(3, "x"),
        "same": stored(2, "x"),
        "older": stored(1, "x"),
        "other": stored(1, "y"),
        "deleted": stored(1, "x", deleted=True),
        "replaced": stored(2, "x", has_vector=False),
    }
    admitted = Admitted(monkeypatch, Found(known, frozenset({"rowless"})))
    admitted.add(*((name, 2, "x") for name in ("new", *known, "rowless")))
    await admitted.admit()
    told = dict(admitted.owner.told)
    assert told.pop("older") == "touch"
    assert told.pop("rowless") == "rowless"
    assert told == dict.fromkeys(("new", "other", "deleted", "replaced"), "embed")
    assert not admitted.admission.is_busy


async def test_what_is_settled_here_ends_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Superseded, or stored already."""
    admitted = Admitted(monkeypatch, Found({"newer": stored(3, "x"), "same": stored(2, "x")}))
    admitted.add(("newer", 2, "x"), ("same", 2, "x"))
    await admitted.admit()
    assert admitted.settled[Outcome.SUPERSEDED] == admitted.settled[Outcome.UNCHANGED] == 1


async def test_what_was_left_is_admitted_without_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question to the ledger that fails is asked again."""
    admitted = Admitted(monkeypatch, RuntimeError("ours"), Found({}))
    admitted.add(("1", 1, "x"))
    with pytest.raises(RuntimeError):
        await admitted.admit()
    assert admitted.admission.is_busy
    await admitted.admit()
    assert admitted.owner.told == [("1", "embed")]


async def test_a_lost_table_is_told_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is paid for."""
    admitted = Admitted(monkeypatch, ColumnGone())
    admitted.add(("1", 1, "x"), ("2", 1, "x"))
    await admitted.admit()
    assert admitted.owner.told == [("1", "column_gone"), ("2", "column_gone")]


async def test_what_was_released_meanwhile_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is looked up as after it, whatever the ledger says."""
    for says in (Found({"1": stored(9, "x")}), CollectionGone()):
        admitted = Admitted(monkeypatch, says)
        admitted.add(("1", 1, "x"))
        admitted.hold.is_released = True
        await admitted.admit()
        assert admitted.settled[Outcome.WITHDRAWN] == 1
        admitted.add(("2", 1, "x"))
        admitted.admission.withdraw()
        assert admitted.settled[Outcome.WITHDRAWN] == 1
        assert (admitted.owner.told, admitted.admission.is_busy) == ([], False)


async def test_what_was_dropped_meanwhile_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is not asked, and nothing is paid for."""
    admitted = Admitted(monkeypatch)
    admitted.add(("1", 1, "x"))
    admitted.owner.is_dropped = True
    await admitted.admit()
    assert admitted.settled[Outcome.WITHDRAWN] == 1
    assert (admitted.owner.told, admitted.admission.is_busy) == ([], False)
