"""What answered calls cost is added up by who asked first, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.catalogue import Model
from embedq_worker.engine.money.usage import MOST_SOURCES, OTHERS, Usage, charges_of, cost_of
from embedq_worker.engine.texts import WaitingText
from embedq_worker.errors import Transient
from embedq_worker.limiter import Flow
from embedq_worker.store.usage import Account, Charge
from tests.support.dispatching import BULK, SHAPE, Bed, Waiter, settled

PRICED = Model(id="m", dimensions=4, usd_per_million_tokens=0.02)
UNPRICED = Model(id="m", dimensions=4)


def text(collection: str, length: int, source: str | None = None) -> WaitingText:
    """Of as many tokens by estimate as characters."""
    return WaitingText(b"", "x" * length, length, 0.0, Flow("live", collection), Waiter(source))


@pytest.mark.parametrize(
    ("price", "cost"), [(0.02, "0.0000002"), (0.13, "0.0000013"), (1e-06, "1E-11"), (0.0, "0")]
)
def test_money_is_exact(price: float, cost: str) -> None:
    """As the price is written, which no float is."""
    assert cost_of(10, price) == Decimal(cost)


def test_a_call_is_shared_out() -> None:
    """By characters, to the collection and source of each text; the call is that of the first."""
    texts = [text("a", 10, "shop"), text("b", 30), text("a", 60, "shop")]
    assert charges_of(PRICED, texts, 200) == [
        Charge(Account("m", "a", "shop", "documents"), 1, 2, 140, 0, 0, Decimal("0.0000028")),
        Charge(Account("m", "b", "", "documents"), 0, 1, 60, 0, 0, Decimal("0.0000012")),
    ]


@pytest.mark.parametrize("said", [None, 0])
def test_estimates_are_marked(said: int | None) -> None:
    """A service that does not count is paid by our estimates."""
    [charge] = charges_of(UNPRICED, [text("a", 10), text("a", 5)], said)
    assert charge == Charge(Account("m", "a", "", "documents"), 1, 2, 15, 15, 15, Decimal(0))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 99)), min_size=1), st.integers(1, 10**6))
def test_nothing_is_lost_or_made_up(given_: list[tuple[str, int]], tokens: int) -> None:
    """The shares of a call add up to it."""
    charges = charges_of(PRICED, [text(name, length) for name, length in given_], tokens)
    assert sum(charge.calls for charge in charges) == 1
    assert sum(charge.texts for charge in charges) == len(given_)
    assert sum(charge.tokens for charge in charges) == tokens
    assert sum(charge.cost for charge in charges) == cost_of(tokens, 0.02)


def test_what_is_taken_is_not_given_again() -> None:
    """Charges of one account are one."""
    usage = Usage()
    usage.add(charges_of(PRICED, [text("a", 1)], 10))
    usage.add(charges_of(PRICED, [text("a", 1)], 5))
    account = Account("m", "a", "", "documents")
    assert usage.take() == [Charge(account, 2, 2, 15, 0, 0, Decimal("0.0000003"))]
    assert usage.take() == []


def test_a_source_a_message_does_not_fill_the_table() -> None:
    """What is beyond so many is counted together."""
    usage = Usage()
    for number in range(MOST_SOURCES + 5):
        usage.add(charges_of(PRICED, [text("a", 1, f"source {number}")], 1))
    usage.add(charges_of(PRICED, [text("a", 1, "source 0")], 1))
    charges = {charge.account.source: charge.tokens for charge in usage.take()}
    assert len(charges) == MOST_SOURCES + 1
    assert (charges[OTHERS], charges["source 0"]) == (5, 2)


async def test_only_answers_cost(bed: Bed) -> None:
    """A call that fails is not paid; tried again in halves, each half is."""
    bed.client.bad = "bad"
    bed.client.failures = [Transient(429)]
    await bed.ask("one", "bad")
    await bed.grant(BULK)
    assert bed.usage.charges == []
    for _ in range(3):
        await bed.wanted()
        await bed.grant(BULK)
    [charge] = bed.usage.charges
    assert (charge.calls, charge.texts, charge.tokens) == (1, 1, 100)


async def test_who_was_first_pays(bed: Bed) -> None:
    """For an equal text that others want as well; who brings it forward pays instead."""
    for source, collection in (("first", "docs"), ("second", "other")):
        bed.dispatcher.ask(b"k", "k", SHAPE, Flow("bulk", collection), Waiter(source))
    bed.dispatcher.ask(b"l", "l", SHAPE, Flow("bulk", "docs"), Waiter("first"))
    bed.dispatcher.ask(b"l", "l", SHAPE, Flow("live", "other"), Waiter("hurried"))
    await settled()
    await bed.grant(BULK)
    await bed.grant(Flow("live", "other"))
    assert [charge.account[1:3] for charge in bed.usage.charges] == [("docs", "first"), ("other", "hurried")]
