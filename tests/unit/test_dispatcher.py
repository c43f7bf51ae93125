"""The dispatcher says what it wants, makes the calls it is granted, and tells everybody what came of them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest

from embedq.contract import Lane
from embedq_worker.api.client import ApiClient
from embedq_worker.api.request import Purpose
from embedq_worker.api.response import Answer
from embedq_worker.catalogue import Model
from embedq_worker.engine import dispatcher as module
from embedq_worker.engine.dispatcher import Dispatcher
from embedq_worker.engine.texts import Shape
from embedq_worker.engine.work import Vector
from embedq_worker.errors import ApiError, BadInput, Refused, Transient
from embedq_worker.limiter import Flow, Grant, Limiter, Limits, Outcome, Want

SHAPE = Shape(4, "document")
QUERY = Shape(4, "query")
LIVE, BULK, ASKED = Flow("live", "docs"), Flow("bulk", "docs"), Flow("query", "docs")


@dataclass
class FakeGate:
    """What a dispatcher sees of a gate: it keeps what is wanted, and the test grants."""

    on_grant: Callable[[Grant], None]
    on_pause: Callable[[], None]
    limits: Limits
    paused: str | None = None
    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None
    wants: dict[Flow, Want] = field(default_factory=dict)
    said: list[tuple[Flow, Want]] = field(default_factory=list)
    released: list[tuple[Grant, Outcome]] = field(default_factory=list)
    granted: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, flow: Flow, want: Want) -> None:
        """Keep it."""
        self.changed.set()
        self.said.append((flow, want))
        self.wants[flow] = want
        if not want.calls:
            del self.wants[flow]

    def release(self, grant: Grant, outcome: Outcome) -> None:
        """Keep it."""
        self.released.append((grant, outcome))

    def grant(self, flow: Flow, tokens: int | None = None) -> Grant:
        """Grant one call, with the tokens that are wanted for it."""
        self.granted += 1
        want = self.wants.get(flow, Want(0, 1))
        grant = Grant(f"p/{self.granted}", *flow, want.tokens if tokens is None else tokens, 0.0)
        self.on_grant(grant)
        return grant

    def pause(self, reason: str) -> None:
        """Something waits, and the fleet says that the model is paused."""
        self.paused = reason
        self.on_pause()

    @property
    def outcomes(self) -> list[Outcome]:
        """How the calls ended."""
        return [outcome for _, outcome in self.released]

    @property
    def verdicts(self) -> list[str]:
        """How the calls ended, in a word."""
        return [outcome.verdict for outcome in self.outcomes]


@dataclass
class FakeLimiter:
    """Opens one gate."""

    gates: list[FakeGate] = field(default_factory=list)

    def gate(
        self, model: str, limits: Limits, *, on_grant: Callable[[Grant], None], on_pause: Callable[[], None]
    ) -> FakeGate:
        """Open it."""
        assert model == "m"
        self.gates.append(FakeGate(on_grant, on_pause, limits))
        return self.gates[0]


@dataclass
class FakeClient:
    """Answers with as many vectors as texts, or fails as it is told: once for each of ``failures``."""

    calls: list[list[str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    bad: str | None = None
    refuses: str | None = None
    tokens: int | None = 100
    held: asyncio.Event | None = None

    async def embed(self, model: Model, texts: Sequence[str], dimensions: int, purpose: Purpose) -> Answer:
        """One call."""
        assert model.id == "m"
        assert purpose in ("document", "query")
        self.calls.append(list(texts))
        if self.held:
            await self.held.wait()
        if self.failures:
            raise self.failures.pop(0)
        if self.bad in texts:
            raise BadInput(400, "bad_text")
        if self.refuses in texts:
            raise Refused(403)
        return Answer(np.ones((len(texts), dimensions), np.float32), self.tokens)


class Waiter:
    """Waits for one vector, and keeps what it is told."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.errors: list[ApiError] = []
        self.attempts = 0
        self.is_gone = False

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        """It has come."""
        assert vector.shape == (4,)
        self.tokens.append(tokens)
        self.attempts = attempts

    def refused(self, error: ApiError, attempts: int) -> None:
        """It will not come."""
        self.errors.append(error)
        self.attempts = attempts

    @property
    def is_waiting(self) -> bool:
        """Whether it was told nothing so far; never twice."""
        assert len(self.tokens) + len(self.errors) <= 1
        return not (self.tokens or self.errors)


class Bed:
    """A dispatcher between a fake gate and a fake client."""

    def __init__(self, *, batch_wait: float = 0.0, retry_time: float = 60.0, inputs: int = 8) -> None:
        self.client = FakeClient()
        limiter = FakeLimiter()
        self.model = Model(id="m", dimensions=4, max_inputs=inputs, max_concurrency=3, requests_per_minute=50)
        self.dispatcher = Dispatcher(
            self.model,
            client=cast("ApiClient", self.client),
            limiter=cast("Limiter", limiter),
            batch_wait=batch_wait,
            retry_time=retry_time,
        )
        [self.gate] = limiter.gates
        self.running: asyncio.Task[None]

    async def ask(
        self, *texts: str, lane: Lane = "bulk", collection: str = "docs", shape: Shape = SHAPE
    ) -> list[Waiter]:
        """Ask for some texts, and let the dispatcher say what it wants."""
        waiters = []
        for text in texts:
            waiters.append(Waiter())
            self.dispatcher.ask(text.encode(), text, shape, Flow(lane, collection), waiters[-1])
        await settled()
        return waiters

    async def wanted(self) -> None:
        """Wait until a call for bulk texts is wanted."""
        async with asyncio.timeout(5):
            while BULK not in self.gate.wants:
                self.gate.changed.clear()
                await self.gate.changed.wait()

    async def grant(self, flow: Flow, tokens: int | None = None) -> None:
        """Grant a call, and let what follows happen."""
        self.gate.grant(flow, tokens)
        await settled()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(bed: Bed) -> AsyncIterator[Bed]:
    """The dispatcher runs."""
    bed.running = asyncio.create_task(bed.dispatcher.run())
    yield bed
    left = [bed.running, *bed.dispatcher.tasks]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """A dispatcher that runs, and does not wait for company."""
    async with running(Bed()) as bed:
        yield bed


async def test_the_limits_are_the_models(bed: Bed) -> None:
    """As its file has them."""
    assert bed.gate.limits == Limits(3, 50, None, "aimd")


async def test_equal_texts_cost_one_call(bed: Bed) -> None:
    """Whoever asks for them; the first carries the tokens, the others cost nothing."""
    [first] = await bed.ask("same")
    [second] = await bed.ask("same", collection="other")
    [third] = await bed.ask("same", lane="live", collection="third")
    await bed.grant(Flow("live", "third"))
    assert bed.client.calls == [["same"]]
    assert (first.tokens, second.tokens, third.tokens) == ([100], [0], [0])
    assert not bed.gate.wants


async def test_a_text_in_flight_is_not_asked_for_again(bed: Bed) -> None:
    """Who comes late gets the same vector; who comes after it a new one."""
    bed.client.held = asyncio.Event()
    [first] = await bed.ask("same")
    await bed.grant(BULK)
    [second] = await bed.ask("same")
    assert not bed.gate.wants
    bed.client.held.set()
    await settled()
    assert not first.is_waiting
    assert not second.is_waiting
    await bed.ask("same")
    assert bed.gate.wants[BULK].calls == 1


async def test_other_vectors_of_an_equal_text_are_another_call(bed: Bed) -> None:
    """Another size, or another purpose."""
    await bed.ask("same")
    await bed.ask("same", shape=QUERY)
    await bed.ask("same", shape=Shape(8, "document"))
    assert bed.gate.wants[BULK].calls == 3


async def test_a_live_ask_brings_a_text_forward(bed: Bed) -> None:
    """A bulk text goes with the live ones; not the other way round."""
    await bed.ask("a", "b")
    await bed.ask("b", lane="live", collection="news")
    assert bed.gate.wants.keys() == {BULK, Flow("live", "news")}
    await bed.ask("b", lane="bulk")
    await bed.grant(Flow("live", "news"))
    assert bed.client.calls == [["b"]]
    await bed.grant(BULK)
    assert bed.client.calls == [["b"], ["a"]]


async def test_a_grant_that_comes_too_late_is_given_back(bed: Bed) -> None:
    """Nothing is left to call."""
    await bed.ask("a", "b")
    await bed.grant(BULK)
    await bed.grant(BULK)
    assert bed.client.calls == [["a", "b"]]
    assert sorted(bed.gate.verdicts) == ["answered", "unused"]
    assert not bed.gate.wants


async def test_what_is_left_is_said_at_once(bed: Bed) -> None:
    """The gate may ask again before anything else runs: it would ask for calls that have nothing to do."""
    await bed.ask("a")
    bed.gate.grant(BULK)
    assert not bed.gate.wants


async def test_company_is_waited_for() -> None:
    """Texts wait for ``batch_wait`` unless a request is full; queries never."""
    async with running(Bed(batch_wait=30.0, inputs=2)) as bed:
        await bed.ask("a")
        assert not bed.gate.wants
        await bed.ask("q", lane="query", shape=QUERY)
        assert bed.gate.wants.keys() == {ASKED}
        await bed.ask("b")
        assert bed.gate.wants.keys() == {ASKED, BULK}


async def test_a_text_that_waited_long_enough_is_wanted() -> None:
    """Without any other event."""
    async with running(Bed(batch_wait=0.01)) as bed:
        await bed.ask("a")
        await bed.wanted()


async def test_a_turn_is_used_by_another_collection_of_the_lane(bed: Bed) -> None:
    """Where its own texts have gone with another request; never by another lane."""
    await bed.ask("a", collection="one")
    await bed.ask("b", lane="live", collection="two")
    await bed.grant(Flow("bulk", "none"))
    await bed.grant(Flow("bulk", "none"))
    assert bed.client.calls == [["a"]]
    assert sorted(bed.gate.verdicts) == ["answered", "unused"]


async def test_what_is_reserved_is_not_exceeded(bed: Bed) -> None:
    """While tokens are limited: the rest waits for the next grant. Without a limit nothing is reserved."""
    texts = [f"{number}" * 400 for number in range(6)]
    bed.gate.tokens_per_minute = 1_000_000
    await bed.ask(*texts)
    one = bed.gate.wants[BULK].tokens // 6 + 1
    await bed.grant(BULK, 2 * one)
    assert bed.client.calls == [texts[:2]]
    bed.gate.tokens_per_minute = None
    await bed.grant(BULK, 1)
    assert bed.client.calls == [texts[:2], texts[2:]]


async def test_a_grant_that_does_not_do_for_the_first_text_is_given_back(bed: Bed) -> None:
    """What the text needs is wanted then."""
    bed.gate.tokens_per_minute = 1_000_000
    [waiter] = await bed.ask("long" * 1000)
    needed = bed.gate.wants[BULK].tokens
    await bed.grant(BULK, needed // 2)
    assert bed.gate.verdicts == ["unused"]
    assert bed.gate.said == [(BULK, Want(1, needed))] * 2  # the grant was off the gate's account
    await bed.grant(BULK)
    assert not waiter.is_waiting


async def test_nor_for_a_batch_that_is_tried_again(bed: Bed) -> None:
    """It waits for a grant that will do; what fits goes before it."""
    bed.gate.tokens_per_minute = 1_000_000
    bed.client.failures = [Refused(401)]
    await bed.ask("long" * 1000)
    await bed.grant(BULK)
    await bed.ask("x")
    needed = bed.gate.wants[BULK].tokens
    await bed.grant(BULK, 10)
    assert bed.client.calls[1:] == [["x"]]
    assert bed.gate.wants == {BULK: Want(1, needed)}
    await bed.grant(BULK)
    assert bed.client.calls[2:] == [["long" * 1000]]


async def test_a_request_takes_a_twentieth_of_the_tokens_a_minute(bed: Bed) -> None:
    """A larger one would hold up all others; requests too few for that are larger."""
    bed.gate.tokens_per_minute = 10_000
    texts = [f"{number}" * 400 for number in range(8)]
    await bed.ask(*texts)
    want = bed.gate.wants[BULK]
    assert want.calls > 1
    assert want.tokens <= 501
    bed.gate.requests_per_minute = 2
    await bed.ask("more")
    assert bed.gate.wants[BULK].calls == 2  # of eight texts each


async def test_a_bad_text_is_found_by_halves(bed: Bed) -> None:
    """Its neighbours are embedded; it alone is refused."""
    bed.client.bad = "c"
    waiters = await bed.ask("a", "b", "c", "d")
    while BULK in bed.gate.wants:
        await bed.grant(BULK)
    assert bed.client.calls == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["d"]]
    assert bed.gate.verdicts == ["neutral", "answered", "neutral", "neutral", "answered"]
    assert [bool(waiter.tokens) for waiter in waiters] == [True, True, False, True]
    [error] = waiters[2].errors
    assert error.code == "bad_text"
    assert waiters[2].attempts == 3


async def test_a_refusal_costs_no_text(bed: Bed) -> None:
    """The same batch is wanted again at once: the gate knows when. What was not refused yet goes first."""
    bed.client.failures = [Refused(401)] * 20
    waiters = await bed.ask("a", "b")
    for _ in range(20):
        await bed.grant(BULK)
    await bed.ask("c")
    await bed.grant(BULK)
    await bed.grant(BULK)
    assert bed.client.calls == [["a", "b"]] * 20 + [["c"], ["a", "b"]]
    assert bed.gate.verdicts == ["refused"] * 20 + ["answered"] * 2
    assert "check EMBEDQ_API_KEY" in bed.gate.outcomes[0].why
    assert not any(waiter.is_waiting for waiter in waiters)


async def test_what_was_refused_goes_last(bed: Bed) -> None:
    """Also after what else is to be tried again."""
    bed.client.failures = [BadInput(400), Refused(401)]
    await bed.ask("a", "b")
    for _ in range(4):
        await bed.grant(BULK)
    assert bed.client.calls == [["a", "b"], ["a"], ["b"], ["a"]]


async def test_a_text_that_alone_is_refused_is_at_fault(bed: Bed) -> None:
    """A firewall says 403 to one text, while the service answers others: its neighbours are embedded."""
    bed.client.refuses = "bad"
    waiters = await bed.ask("a", "bad")
    for number in range(8):
        await bed.ask(f"other {number}")
        for _ in range(3):
            if not waiters[0].is_waiting and not waiters[1].is_waiting:
                break
            await bed.grant(BULK)
    assert waiters[0].tokens
    assert [type(error) for error in waiters[1].errors] == [Refused]


async def test_a_failure_is_tried_again_later(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a random part of a delay that doubles; meanwhile others are called."""
    ceilings: list[float] = []

    def soon(_: float, most: float) -> float:
        ceilings.append(most)
        return 0.001

    monkeypatch.setattr(random, "uniform", soon)
    bed.client.failures = [Transient(500)] * 8
    [waiter] = await bed.ask("a")
    while waiter.is_waiting:
        await bed.wanted()
        await bed.grant(BULK)
    assert ceilings == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert bed.gate.verdicts == ["failed"] * 8 + ["answered"]
    assert waiter.attempts == 9


async def test_a_batch_that_fails_for_long_is_halved(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what one text does to the service does not hold up its neighbours."""
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    bed.client.failures = [Transient(500)] * 3
    waiters = await bed.ask("a", "b", "c")
    for seconds in (0, 60, 1, 1, 1):
        now[0] += seconds
        await bed.wanted()
        await bed.grant(BULK)
    assert bed.client.calls == [["a", "b", "c"]] * 3 + [["a"], ["b", "c"]]
    assert not any(waiter.is_waiting for waiter in waiters)


async def test_an_exception_of_our_own_is_no_outcome(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged without what it says, the call's slot is free again, and the texts are tried again."""
    caplog.set_level(logging.ERROR)
    bed.client.failures = [ValueError("secret text")]
    [waiter] = await bed.ask("a")
    await bed.grant(BULK)
    assert bed.gate.verdicts == ["dropped"]
    assert "ValueError" in caplog.text
    assert "secret text" not in caplog.text
    await bed.wanted()
    await bed.grant(BULK)
    assert not waiter.is_waiting


async def test_a_waiter_that_fails_costs_no_neighbour(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does it make an answer of the service a failure."""
    caplog.set_level(logging.ERROR)
    [broken] = await bed.ask("secret text")
    [same] = await bed.ask("secret text")
    [other] = await bed.ask("b")

    def fail(*_: object) -> None:
        raise ValueError(bed.client.calls)

    monkeypatch.setattr(broken, "embedded", fail)
    await bed.grant(BULK)
    assert not same.is_waiting
    assert not other.is_waiting
    assert bed.gate.verdicts == ["answered"]
    assert "could not be handed on: ValueError" in caplog.text
    assert "secret text" not in caplog.text
    await bed.ask("secret text")
    assert bed.gate.wants[BULK].calls == 1


async def test_an_exception_does_not_reach_the_gate(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It renews the leases of all calls; what was granted is given back."""
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(bed.dispatcher, "_next_batch", lambda _: 1 / 0)
    await bed.ask("a")
    await bed.grant(BULK)
    assert bed.gate.verdicts == ["unused"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("said", [100, None, 0])
async def test_what_a_call_used_is_told(bed: Bed, said: int | None) -> None:
    """Each collection's share adds up to the whole; to the estimate where the service does not count."""
    bed.client.tokens = said
    waiters = await bed.ask("a" * 40, "b" * 80)
    waiters += await bed.ask("c" * 60, collection="other")
    await bed.grant(BULK)
    [outcome] = bed.gate.outcomes
    assert outcome.tokens == (said or None)
    assert outcome.shares is not None
    assert outcome.shares.keys() == {"docs", "other"}
    if said:
        assert sum(outcome.shares.values()) == said
        assert outcome.shares["other"] == sum(waiters[2].tokens)
    assert min(outcome.shares.values()) > 0


async def test_calls_are_finished(bed: Bed) -> None:
    """Those in flight end, nothing is wanted any more, and what is granted all the same is given back."""
    bed.client.held = asyncio.Event()
    [first] = await bed.ask("a")
    await bed.grant(BULK)
    [second] = await bed.ask("b")
    await bed.ask("c", lane="live")
    bed.running.cancel()
    finishing = asyncio.create_task(bed.dispatcher.finish_calls())
    await settled()
    assert not bed.gate.wants
    await bed.grant(BULK)
    assert not finishing.done()
    bed.client.held.set()
    await asyncio.wait_for(finishing, 5)
    assert not first.is_waiting
    assert second.is_waiting
    assert bed.client.calls == [["a"]]
    assert not bed.gate.wants


async def test_an_abandoned_text_is_not_called(bed: Bed) -> None:
    """Its waiters are told; one that somebody else waits for is called."""
    [alone, shared] = await bed.ask("a", "b")
    [other] = await bed.ask("b")
    alone.is_gone = shared.is_gone = True
    await bed.grant(BULK)
    assert bed.client.calls == [["b"]]
    assert [error.code for error in (*alone.errors, *shared.errors)] == ["abandoned"] * 2
    assert other.tokens == [100]
    assert not bed.gate.wants


@pytest.mark.parametrize("failure", [None, Refused(401), Transient(500)], ids=str)
async def test_abandoned_texts_are_let_go(bed: Bed, failure: Exception | None) -> None:
    """At once, though the gate grants nothing: also those that were tried already, due or not."""
    waiters = await bed.ask("a", "b")
    if failure:
        bed.client.failures = [failure]
        await bed.grant(BULK)
    [other] = await bed.ask("b", collection="other")
    for waiter in waiters:
        waiter.is_gone = True
    bed.dispatcher.let_go()
    await settled()
    assert [error.code for waiter in waiters for error in waiter.errors] == ["abandoned"] * 2
    assert not other.errors
    other.is_gone = True
    bed.dispatcher.let_go()
    await settled()
    assert [error.code for error in other.errors] == ["abandoned"]
    assert not bed.gate.wants
    await bed.ask("a")
    assert bed.gate.wants[BULK].calls == 1


@pytest.mark.parametrize("failure", [Refused(401), Transient(500)], ids=str)
async def test_an_abandoned_text_is_not_tried_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Also where nobody said that it is."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    bed.client.failures = [failure]
    [waiter] = await bed.ask("a")
    await bed.grant(BULK)
    await bed.wanted()
    waiter.is_gone = True
    await bed.grant(BULK)
    assert bed.client.calls == [["a"]]
    assert bed.gate.verdicts[-1] == "unused"
    assert not waiter.is_waiting


async def test_a_query_to_a_paused_model_is_told_so(bed: Bed) -> None:
    """At once, with the reason; jobs wait."""
    bed.gate.paused = "the embeddings API refuses us"
    [job] = await bed.ask("a")
    [query] = await bed.ask("a", lane="query", shape=QUERY)
    [error] = query.errors
    assert error.code == "paused"
    assert str(error) == "the embeddings API refuses us"
    assert job.is_waiting
    assert bed.gate.wants.keys() == {BULK}
    bed.gate.paused = None
    [query] = await bed.ask("a", lane="query", shape=QUERY)
    assert query.is_waiting
    assert ASKED in bed.gate.wants


@pytest.mark.parametrize("failure", [None, Refused(401), Transient(500)], ids=str)
async def test_a_query_that_waits_when_the_pause_begins_is_told_so(
    bed: Bed, failure: Exception | None
) -> None:
    """Whether it waits for its first call or for another one; a job waits on."""
    [query] = await bed.ask("q", lane="query", shape=QUERY)
    [job] = await bed.ask("a")
    if failure:
        bed.client.failures = [failure, failure]
        await bed.grant(ASKED)
        await bed.grant(BULK)
    bed.gate.pause("refused")
    await settled()
    assert [error.code for error in query.errors] == ["paused"]
    assert job.is_waiting
    assert ASKED not in bed.gate.wants


async def test_no_pause_no_refusal(bed: Bed) -> None:
    """The pause may be over when its news comes."""
    [query] = await bed.ask("q", lane="query", shape=QUERY)
    bed.gate.on_pause()
    assert query.is_waiting


async def test_what_a_grant_leaves_over_becomes_due() -> None:
    """A request was full; the rest is not, and waits for company for a moment only."""
    async with running(Bed(batch_wait=0.05)) as bed:
        await bed.ask(*(str(number) for number in range(bed.model.inputs + 3)))
        await bed.grant(BULK)
        assert BULK not in bed.gate.wants
        await bed.wanted()
        assert bed.gate.wants[BULK].calls == 1
