"""Usage: what answered calls cost, by whom and for what, added up until it is reported."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from embedq_worker.catalogue import Model
from embedq_worker.engine.texts import WaitingText, tokens_of
from embedq_worker.store.usage import Account, Charge, UsagePurpose

MOST_SOURCES = 1_000
"""Names of producers that are kept apart: one that makes a name for each message must not fill the table."""
OTHERS = "(others)"
"""The source of what more of them used."""


class Usage:
    """What this process has used and not reported yet."""

    def __init__(self) -> None:
        self._charges: dict[Account, Charge] = {}
        self._sources: set[str] = set()

    @property
    def charges(self) -> list[Charge]:
        """One for each account."""
        return list(self._charges.values())

    def add(self, charges: Sequence[Charge]) -> None:
        """More was used."""
        for charge in charges:
            account = self._bounded(charge.account)
            known = self._charges.get(account)
            self._charges[account] = charge if known is None else _sum(account, known, charge)

    def take(self) -> list[Charge]:
        """What there is, which is somebody else's to report from now on."""
        taken, self._charges = self.charges, {}
        return taken

    def _bounded(self, account: Account) -> Account:
        if account.source not in self._sources:
            if len(self._sources) >= MOST_SOURCES:
                return account._replace(source=OTHERS)
            self._sources.add(account.source)
        return account


def charges_of(model: Model, texts: Sequence[WaitingText], tokens: int | None) -> list[Charge]:
    """What one answered call costs: each text is charged to whoever asked for it first.

    ``tokens`` as the service counted them, None where it did not say. The call itself counts once, for its
    first text.
    """
    sums: dict[tuple[str, str | None, UsagePurpose], list[int]] = {}
    for text, part in zip(texts, tokens_of(texts, tokens), strict=True):
        payer = text.payer
        key = (text.flow.collection, payer.source, payer.purpose)
        known = sums.get(key)
        if known is None:
            sums[key] = [1, part]
        else:
            known[0] += 1
            known[1] += part
    price = model.usd_per_million_tokens
    return [
        Charge(
            Account(model.id, collection, source or "", purpose),
            calls=0 if number else 1,
            texts=count,
            tokens=used,
            estimated_tokens=0 if tokens else used,
            unpriced_tokens=used if price is None else 0,
            cost=cost_of(used, price),
        )
        for number, ((collection, source, purpose), (count, used)) in enumerate(sums.items())
    ]


def cost_of(tokens: int, usd_per_million_tokens: float | None) -> Decimal:
    """US dollars, exactly: the price is taken as it is written, not as the float that is nearest to it."""
    if usd_per_million_tokens is None:
        return Decimal(0)
    return (tokens * Decimal(repr(usd_per_million_tokens))).scaleb(-6)


def _sum(account: Account, one: Charge, other: Charge) -> Charge:
    return Charge(
        account,
        one.calls + other.calls,
        one.texts + other.texts,
        one.tokens + other.tokens,
        one.estimated_tokens + other.estimated_tokens,
        one.unpriced_tokens + other.unpriced_tokens,
        one.cost + other.cost,
    )
