"""Budgets: whose texts wait, because what they may cost a day is spent.

No input or output here: the keeper of usage tells what Postgres says, and the purses what this process has
used since. A budget that is spent is over for texts to be stored; who asks a query is told why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from embedq_worker.logs import get_logger
from embedq_worker.money import dollars
from embedq_worker.store.usage import Charge, Scope, UsageToday

logger = get_logger(__name__)


@dataclass(slots=True)
class _Budget:
    """What may be spent a day, None: any number; and what is spent of it."""

    dollars: Decimal | None
    tokens: int | None
    spent_dollars: Decimal
    spent_tokens: int

    @property
    def is_spent(self) -> bool:
        over_dollars = self.dollars is not None and self.spent_dollars >= self.dollars
        return over_dollars or (self.tokens is not None and self.spent_tokens >= self.tokens)

    def __str__(self) -> str:
        parts = []
        if self.dollars is not None:
            parts.append(f"{dollars(self.spent_dollars)} of {dollars(self.dollars)}")
        if self.tokens is not None:
            parts.append(f"{self.spent_tokens:,} of {self.tokens:,} tokens")
        return ", ".join(parts)


class Budgets:
    """Of all models and collections. ``on_changed`` is called when others have to wait than before."""

    def __init__(self, on_changed: Callable[[], None] = lambda: None) -> None:
        self.on_changed = on_changed
        self._budgets: dict[tuple[Scope, str], _Budget] = {}
        self._spent: set[tuple[Scope, str]] = set()
        self._is_known = False
        """Whether they were read at all: until then all wait, or each start would be a free second."""

    def refresh(self, today: Iterable[UsageToday], unreported: Sequence[Charge]) -> None:
        """What Postgres says of today, and what this process has used that is not in it."""
        self._budgets = {
            (each.scope, each.name): _Budget(each.budget_dollars, each.budget_tokens, each.cost, each.tokens)
            for each in today
            if each.is_limited
        }
        self._add(unreported)
        was_known, self._is_known = self._is_known, True
        self._look(has_changed=not was_known)

    def spend(self, charges: Sequence[Charge]) -> None:
        """More was used."""
        if self._budgets:
            self._add(charges)
            self._look()

    def is_held(self, model: str, collection: str) -> bool:
        """Whether texts of a collection wait for their budget, or for that of their model."""
        return not self._is_known or self.lacks_money(model, collection)

    def lacks_money(self, model: str, collection: str) -> bool:
        """Whether a collection's budget, or that of its model, is known to be spent. From any thread."""
        spent = self._spent
        return bool(spent) and (("model", model) in spent or ("collection", collection) in spent)

    def is_spent(self, model: str) -> bool:
        """Whether a model's own budget is spent."""
        return ("model", model) in self._spent

    def reason(self, model: str, collection: str) -> str | None:
        """Why they wait, and what to do; None while they do not, or nobody knows yet."""
        named: tuple[tuple[Scope, str], ...] = (("model", model), ("collection", collection))
        for scope, name in named:
            if (scope, name) in self._spent:
                return (
                    f"the budget of {scope} {name} for today is spent ({self._budgets[scope, name]}); raise "
                    f"it with `embedq budget set --{scope} {name}`, or wait until midnight UTC"
                )
        return None

    def _add(self, charges: Sequence[Charge]) -> None:
        for charge in charges:
            named: tuple[tuple[Scope, str], ...] = (
                ("model", charge.account.model),
                ("collection", charge.account.collection),
            )
            for name in named:
                if (budget := self._budgets.get(name)) is not None:
                    budget.spent_dollars += charge.cost
                    budget.spent_tokens += charge.tokens

    def _look(self, *, has_changed: bool = False) -> None:
        """Say what has become of budgets, each once."""
        spent = {name for name, budget in self._budgets.items() if budget.is_spent}
        for scope, name in sorted(spent - self._spent):
            logger.error(
                "budget_spent",
                "the budget of {scope} {name} for today is spent ({spent}): its texts wait until midnight "
                "UTC, its queries are refused; `embedq budget set --{scope} {name}` raises it",
                scope=scope,
                name=name,
                spent=str(self._budgets[scope, name]),
            )
        for scope, name in sorted(self._spent - spent):
            sentence = "there is money for {scope} {name} again; its texts go on"
            logger.warning("budget_open", sentence, scope=scope, name=name)
        if spent != self._spent or has_changed:
            self._spent = spent
            self.on_changed()
