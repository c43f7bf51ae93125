"""Budgets: whose texts wait, who is told, and who goes on."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest

from embedq_worker.engine.money.budgets import Budgets
from embedq_worker.errors import NotCalled, Transient
from embedq_worker.limiter import Flow
from embedq_worker.store.usage import Account, Charge, Scope, UsageToday
from tests.support.dispatching import ASKED, BULK, QUERY, SHAPE, Bed, Waiter, settled

OTHER = Flow("bulk", "other")


def today(
    scope: Scope, name: str, *, dollars: str | None = None, tokens: int | None = None, spent: int = 0
) -> UsageToday:
    """A budget, of which so many tokens are spent, at a dollar each."""
    return UsageToday(
        scope=scope,
        name=name,
        tokens=spent,
        unpriced_tokens=0,
        cost=Decimal(spent),
        budget_dollars=None if dollars is None else Decimal(dollars),
        budget_tokens=tokens,
        is_spent=False,
    )


def charge(tokens: int) -> list[Charge]:
    """Of collection docs and model m."""
    account = Account("m", "docs", "", "documents")
    return [Charge(account, 1, 1, tokens, 0, 0, Decimal(tokens))]


def test_all_wait_until_budgets_are_known() -> None:
    """For no reason that a query would be refused for."""
    told: list[bool] = []
    budgets = Budgets(lambda: told.append(True))
    assert budgets.is_held("m", "docs")
    assert budgets.reason("m", "docs") is None
    budgets.refresh([], [])
    assert not budgets.is_held("m", "docs")
    assert told == [True]


@pytest.mark.parametrize(
    ("budget", "is_held", "is_other_held"),
    [
        (today("collection", "docs", dollars="10"), True, False),
        (today("collection", "docs", tokens=10), True, False),
        (today("model", "m", tokens=10), True, True),
        (today("collection", "docs", dollars="10.01", tokens=11), False, False),
        (today("collection", "m", dollars="1"), False, False),
        (today("collection", "docs", dollars="100", tokens=10), True, False),
    ],
)
def test_what_is_used_here_counts_at_once(budget: UsageToday, is_held: bool, is_other_held: bool) -> None:
    """In dollars or tokens, of the collection or of the model for all of its collections."""
    budgets = Budgets()
    budgets.refresh([budget], charge(4))
    assert not budgets.is_held("m", "docs")
    budgets.spend(charge(6))
    assert budgets.is_held("m", "docs") == is_held
    assert budgets.is_held("m", "other") == is_other_held
    assert not budgets.is_held("another", "third")
    assert budgets.is_spent("m") == is_other_held


def test_each_turn_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """When it is spent, and when midnight has passed or the budget was raised."""
    caplog.set_level(logging.WARNING)
    told: list[bool] = []
    budgets = Budgets(lambda: told.append(True))
    for spent in (0, 5, 6, 6, 0, 0):  # midnight is when Postgres says that nothing was used today
        budgets.refresh([today("collection", "docs", dollars="5", spent=spent)], [])
    assert len(told) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "($5.00 of $5.00)" in caplog.text


def hold(bed: Bed, *names: str) -> None:
    """Let the budgets of these collections be spent, and of no others."""
    bed.budgets.refresh([today("collection", name, dollars="0") for name in names], [])


async def test_held_texts_wait_and_others_go_on(bed: Bed) -> None:
    """In one process, of one model; when there is money again they are called for."""
    [early] = await bed.ask("early")
    hold(bed, "docs")
    [late] = await bed.ask("late")
    [other] = await bed.ask("x", collection="other")
    assert set(bed.gate.wants) == {OTHER}
    await bed.grant(BULK)  # it was on its way
    assert bed.client.calls == [["x"]]
    assert not other.is_waiting
    assert early.is_waiting
    hold(bed)
    await settled()
    await bed.grant(BULK)
    assert bed.client.calls[1:] == [["early", "late"]]
    assert not late.is_waiting


async def test_what_failed_before_waits_as_well(bed: Bed) -> None:
    """A batch of two collections is tried again for the one that has money."""
    bed.client.failures = [Transient(503)]
    await bed.ask("a")
    await bed.ask("b", collection="other")
    await bed.grant(BULK)
    hold(bed, "docs")
    await bed.wanted(OTHER)
    await bed.grant(OTHER)
    assert bed.client.calls == [["a", "b"], ["b"]]
    hold(bed)
    await bed.wanted(BULK)
    await bed.grant(BULK)
    assert bed.client.calls[2:] == [["a"]]


async def test_an_equal_text_goes_with_who_has_money(bed: Bed) -> None:
    """And is charged to it."""
    hold(bed, "docs")
    [poor] = await bed.ask("same")
    [rich] = await bed.ask("same", collection="other")
    await bed.grant(OTHER)
    assert (poor.is_waiting, rich.is_waiting) == (False, False)
    assert [each.account.collection for each in bed.usage.charges] == ["other"]


async def test_queries_are_refused_at_once(bed: Bed) -> None:
    """Those that wait, and those that come; with what to do."""
    [waiting] = await bed.ask("q", lane="query", shape=QUERY)
    hold(bed, "docs")
    [late] = await bed.ask("p", lane="query", shape=QUERY)
    for asked in (waiting, late):
        [error] = asked.errors
        assert isinstance(error, NotCalled)
        assert error.code == "budget"
        assert "embedq budget set --collection docs" in str(error)
    assert ASKED not in bed.gate.wants


async def test_a_spent_model_is_paused(bed: Bed) -> None:
    """For who asks whether it is worth waiting for; and a process that stops does not wait for money."""
    await bed.ask("a")
    bed.budgets.refresh([today("model", "m", tokens=0)], [])
    assert bed.dispatcher.is_paused
    await settled()
    assert not bed.gate.wants
    await bed.dispatcher.finish_wanted()
    assert bed.client.calls == []


async def test_what_nobody_waits_for_is_let_go_of(bed: Bed) -> None:
    """Also where it is held."""
    hold(bed, "docs")
    waiter = Waiter()
    bed.dispatcher.ask(b"k", "k", SHAPE, BULK, waiter)
    waiter.is_gone = True
    bed.dispatcher.let_go()
    [error] = waiter.errors
    assert error.code == "abandoned"
    hold(bed)
    await settled()
    assert not bed.gate.wants
