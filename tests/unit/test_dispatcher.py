"""The dispatcher says what it wants, and makes the calls that it is granted."""

from __future__ import annotations

import asyncio

from embedq_worker.engine.texts import Shape
from embedq_worker.errors import NotCalled, Refused, Transient
from embedq_worker.limiter import Flow, Limits, Want
from tests.support.dispatching import (
    ASKED,
    BULK,
    QUERY,
    Bed,
    running,
    settled,
)


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


async def test_a_request_takes_a_fiftieth_of_the_tokens_a_minute(bed: Bed) -> None:
    """A larger one would hold up all others; requests too few for that are larger."""
    bed.gate.tokens_per_minute = 10_000
    texts = [f"{number}" * 40 for number in range(8)]
    await bed.ask(*texts)
    want = bed.gate.wants[BULK]
    assert want.calls > 1
    assert want.tokens <= 202  # rounded up twice
    bed.gate.requests_per_minute = 2
    await bed.ask("more")
    assert bed.gate.wants[BULK].calls == 2  # of eight texts each


async def test_what_a_grant_leaves_over_becomes_due() -> None:
    """A request was full; the rest is not, and waits for company for a moment only."""
    async with running(Bed(batch_wait=0.05)) as bed:
        await bed.ask(*(str(number) for number in range(bed.model.inputs + 3)))
        await bed.grant(BULK)
        assert BULK not in bed.gate.wants
        await bed.wanted()
        assert bed.gate.wants[BULK].calls == 1


async def test_nothing_is_called_without_leave(bed: Bed) -> None:
    """The lease of what is in hand has lapsed, another process may call for it; with leave it goes on."""
    bed.may_call = False
    await bed.ask("a")
    await bed.grant(BULK)
    assert bed.client.calls == []
    assert bed.gate.verdicts == ["unused"]
    bed.may_call = True
    await bed.wanted()
    await bed.grant(BULK)
    assert bed.client.calls == [["a"]]


async def test_a_call_that_fails_after_everybody_left_is_not_made_again(bed: Bed) -> None:
    """Those who waited are told that nobody was asked again."""
    bed.client.held = asyncio.Event()
    bed.client.failures = [Transient(500)]
    [left] = await bed.ask("a")
    await bed.grant(BULK)
    left.is_gone = True
    bed.client.held.set()
    await settled()
    [error] = left.errors
    assert isinstance(error, NotCalled)
    assert bed.client.calls == [["a"]]
