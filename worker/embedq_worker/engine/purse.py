"""The purse of one model: what its answered calls cost is paid from it."""

from __future__ import annotations

from collections.abc import Sequence

from embedq_worker.catalogue import Model
from embedq_worker.engine.texts import WaitingText
from embedq_worker.engine.usage import Usage, charges_of


class Purse:
    """For the model's dispatcher."""

    def __init__(self, model: Model, usage: Usage) -> None:
        self._model = model
        self._usage = usage

    def pay(self, texts: Sequence[WaitingText], tokens: int | None) -> None:
        """A call was answered; ``tokens`` as the service counted them, or None."""
        self._usage.add(charges_of(self._model, texts, tokens))
