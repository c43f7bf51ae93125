"""The purse of one model: it pays for answered calls, and says whose texts must wait for money."""

from __future__ import annotations

from collections.abc import Sequence

from embedq_worker.catalogue import Model
from embedq_worker.engine.money.budgets import Budgets
from embedq_worker.engine.money.usage import Usage, charges_of
from embedq_worker.engine.texts import WaitingText


class Purse:
    """For the model's dispatcher."""

    def __init__(self, model: Model, usage: Usage, budgets: Budgets) -> None:
        self._model = model
        self._usage = usage
        self._budgets = budgets

    def pay(self, texts: Sequence[WaitingText], tokens: int | None) -> None:
        """A call was answered; ``tokens`` as the service counted them, or None."""
        charges = charges_of(self._model, texts, tokens)
        self._usage.add(charges)
        self._budgets.spend(charges)

    def is_held(self, collection: str) -> bool:
        """Whether no call may be made for a collection's texts now."""
        return self._budgets.is_held(self._model.id, collection)

    def lacks_money(self, collection: str) -> bool:
        """Whether a budget is known to be spent on which a collection's texts depend. From any thread."""
        return self._budgets.lacks_money(self._model.id, collection)

    @property
    def is_spent(self) -> bool:
        """Whether no call of the model may be made at all."""
        return self._budgets.is_spent(self._model.id)

    def reason(self, collection: str) -> str | None:
        """Why a collection's texts wait for money; None while they do not."""
        return self._budgets.reason(self._model.id, collection)
