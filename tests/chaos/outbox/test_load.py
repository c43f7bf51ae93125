"""The load: of the seed alone, and with everything that it is to have."""

from __future__ import annotations

from tests.chaos.outbox.load import Change, Savepoint, plan


def test_a_seed_is_a_load() -> None:
    """A run can be repeated, and another is another."""
    assert plan(1, 50) == plan(1, 50) != plan(2, 50)


def test_a_load_has_everything() -> None:
    """One transaction in ten is rolled back; savepoints of both kinds; ids that come again and again."""
    transactions = plan(3, 5000)
    assert 0.08 < sum(not each.commits for each in transactions) / 5000 < 0.12
    parts = [part for each in transactions for part in each.parts]
    savepoints = [part for part in parts if isinstance(part, Savepoint)]
    assert {each.is_kept for each in savepoints} == {True, False}
    assert len(savepoints) > 500
    changes = [part for part in parts if isinstance(part, Change)]
    assert any(each.text is None for each in changes)
    assert len(changes) > 5 * len({each.id for each in changes})
    assert len({each.text for each in changes}) > len(changes) / 2


def test_no_two_transactions_wait_in_a_circle() -> None:
    """Each takes its ids in order."""
    for transaction in plan(4, 500):
        ids = [
            change.id
            for part in transaction.parts
            for change in (part.changes if isinstance(part, Savepoint) else [part])
        ]
        assert ids == sorted(ids)
