"""Fills in the engine: what becomes of their rows when the collection moves on meanwhile."""

from __future__ import annotations

import json

import msgspec
import pytest

from embedq_worker.catalogue import Model
from embedq_worker.engine.moving.filling import Filling
from embedq_worker.engine.moving.models import Models, ShadowModel
from embedq_worker.engine.summary import Summary
from embedq_worker.engine.texts import Shape, Waiter
from embedq_worker.engine.work import RunningJob
from embedq_worker.errors import BadInput, NotCalled
from embedq_worker.limiter import Flow
from embedq_worker.store.collection import Shadow
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.store.moving.filler import Unfilled
from embedq_worker.store.postgres.database import Database
from tests.support.docs_collection import DOCS

SHADOW = Shadow(
    generation=2,
    model="new",
    dimensions=3,
    vector_type="vector",
    column_name="embedding_g2",
    state="next",
)
COLLECTION = msgspec.structs.replace(DOCS, model="old", shadow=SHADOW)
ROWS = [Unfilled("1", chunk, f"text {chunk}", 7) for chunk in range(2)]


class Asked:
    """A model that is asked, and answers when told to."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """As a dispatcher."""
        assert (len(key), text[:4], shape, flow) == (32, "text", Shape(3, "document"), Flow("bulk", "docs"))
        self.waiters.append(waiter)


class Fills:
    """The filling of a collection that is never read: its rows are given."""

    def __init__(self) -> None:
        self.asked = Asked()
        self.letters: list[DeadLetter] = []
        self.ended: list[Summary] = []
        other = ShadowModel(Model(id="new", dimensions=3), 3, 2, self.asked, lambda: False)
        models = Models(COLLECTION, Model(id="old", dimensions=2), self.asked, other)
        database = Database("postgresql://nowhere/nothing", connections=1)
        self.filling = Filling(models, database=database, bury=self.bury, look=self.look)
        job = RunningJob(1, lane="bulk", source=None, finish=self.ended.append)
        self.filling._ask(job, ROWS, 2)

    def bury(self, letter: DeadLetter, done: object) -> None:
        """As a burial queue, at once."""
        self.letters.append(letter)
        assert callable(done)
        done()

    async def look(self) -> bool:
        """As a directory."""
        return True


@pytest.mark.parametrize("shadow", [None, msgspec.structs.replace(SHADOW, generation=3)])
async def test_rows_of_a_move_that_is_over_are_not_asked_for(shadow: Shadow | None) -> None:
    """Finished, abandoned, or begun anew: who waits for the former model's vector waits no more."""
    fills = Fills()
    assert [waiter.is_gone for waiter in fills.asked.waiters] == [False, False]
    now = msgspec.structs.replace(COLLECTION, shadow=shadow)
    fills.filling.follow(Models(now, Model(id="old", dimensions=2), fills.asked))
    assert [waiter.is_gone for waiter in fills.asked.waiters] == [True, True]
    for waiter in fills.asked.waiters:
        waiter.refused(NotCalled("abandoned", "nobody waits"), 0)
    (summary,) = fills.ended
    assert (summary["items"], summary["superseded"]) == (1, 1)


async def test_letter_of_a_fill_has_ids_alone() -> None:
    """The item is stored: a letter that knew one of its chunks would put it in the place of all."""
    fills = Fills()
    for waiter in fills.asked.waiters:
        waiter.refused(BadInput(400), 1)
    assert {(letter.cause, letter.item_id, letter.version) for letter in fills.letters} == {
        ("successor", "1", 7)
    }
    fill = {"v": 1, "collection": "docs", "generation": 2, "items": ["1"]}
    assert [json.loads(letter.payload) for letter in fills.letters] == [fill, fill]
    assert fills.ended[0]["dead"] == 1
