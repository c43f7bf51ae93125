"""What becomes of texts whose calls fail, whose callers have gone, or whose model is paused."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from embedq_worker.engine.calling import calls as module
from embedq_worker.errors import BadInput, Refused, Transient
from tests.support.dispatching import (
    ASKED,
    BULK,
    LIVE,
    QUERY,
    SHAPE,
    Bed,
    settled,
)


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


@pytest.mark.parametrize("before", [Transient(500), Transient(503)], ids=str)
async def test_what_failed_before_is_no_refusal(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, before: Transient
) -> None:
    """Credits run out after a bad hour: what failed in it waits for them like everything else."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    [waiter] = await bed.ask("a")
    for number in range(6):
        bed.client.failures = [before if number < 5 else Refused(403)]
        await bed.wanted()
        await bed.grant(BULK)
        await bed.ask(f"other {number}", lane="live")
        await bed.grant(LIVE)
    assert bed.client.calls.count(["a"]) == 6
    assert waiter.is_waiting


async def test_what_was_overloaded_is_not_halved_when_we_are_refused(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers from before tell nothing of a refusal that comes after them."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    await bed.ask("other", lane="live")
    await bed.grant(LIVE)
    bed.client.failures = [Transient(503), Refused(401)]
    await bed.ask("a", "b")
    for _ in range(3):
        await bed.wanted()
        await bed.grant(BULK)
    assert bed.client.calls == [["other"]] + [["a", "b"]] * 3


@pytest.mark.parametrize("texts", [("a", "b", "c", "bad"), ("bad", "a", "b", "c")], ids=" ".join)
async def test_a_half_tells_whose_fault_the_other_is(bed: Bed, texts: tuple[str, ...]) -> None:
    """Once others were answered the neighbours of a bad text are embedded, whoever else calls."""
    bed.client.refuses = "bad"
    waiters = await bed.ask(*texts)
    await bed.grant(BULK)
    await bed.ask("other")
    for _ in range(10):
        await bed.grant(BULK)
    assert [bool(waiter.tokens) for waiter in waiters] == [text != "bad" for text in texts]
    assert sum(waiter.is_waiting for waiter in waiters) == 1


async def test_halves_tell_whose_fault_it_is(bed: Bed) -> None:
    """At the end of a load nobody else calls: of two bad texts the neighbours are embedded all the same."""
    bed.client.refuses = "bad"
    waiters = []
    for shape in (SHAPE, QUERY):
        waiters += await bed.ask("a", "b", "c", "bad", shape=shape)
        await bed.grant(BULK)
    await bed.ask("other")
    for _ in range(20):
        await bed.grant(BULK)
    assert [bool(waiter.tokens) for waiter in waiters] == [True, True, True, False] * 2


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


async def test_a_text_that_breaks_the_service_is_at_fault(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found soon while others are answered, and is a dead letter in the end; its neighbours are not."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    bed.client.breaks = "bad"
    *neighbours, bad = await bed.ask("a", "b", "c", "bad")
    for number in range(30):
        await bed.ask(f"other {number}", lane="live")
        await bed.grant(LIVE)
        if not bad.is_waiting:
            break
        await bed.wanted()
        await bed.grant(BULK)
    assert all(waiter.tokens for waiter in neighbours)
    [error] = bad.errors
    assert (error.status, error.code) == (500, "broken")
    assert bed.client.calls.count(["bad"]) == 11
    assert sum("a" in texts for texts in bed.client.calls) <= 4


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
