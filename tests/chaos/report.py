"""The outcome of a run, for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.billing import Billing
from tests.chaos.checker import Verdict

_SHOWN = 20


@dataclass(frozen=True)
class Report:
    """Everything that a run has shown."""

    verdict: Verdict
    billing: Billing
    left: int
    """Messages that were still queued, in hand or suspect when waiting for them ended."""
    seconds: float
    deeds: dict[str, int]
    """How often each thing was done."""
    folder: Path
    complaints: list[str] = field(default_factory=list)
    """What workers did of their own that they should not have done. Shown; no promise is broken by it."""

    @property
    def broken(self) -> list[str]:
        """Every broken promise."""
        found = []
        if self.left:
            found.append(f"not finished: {self.left} messages are left, their items count as lost or stale")
        if self.billing.unexplained:
            found.append(f"billed twice: {self.billing.unexplained} texts that no kill and no stop explains")
        return [*found, *self.verdict.broken]

    @property
    def line(self) -> str:
        """The outcome in one line."""
        verdict = self.verdict
        figures = {
            "ok": verdict.ok,
            "lost": len(verdict.lost),
            "unexpected": len(verdict.unexpected),
            "duplicated": len(verdict.duplicated),
            "recovered": len(verdict.recovered),
            "stale": len(verdict.stale),
            "wrong vector": len(verdict.wrong_vector),
            "billed twice": self.billing.twice,
        }
        return " / ".join(f"{name} {figure:,}" for name, figure in figures.items())

    def __str__(self) -> str:
        lines = [
            f"{self.seconds:.0f} s; "
            + ", ".join(f"{name} {times}" for name, times in sorted(self.deeds.items())),
            self.line,
            _cost(self.billing),
            *(f"  {finding}" for finding in self.broken[:_SHOWN]),
            *([f"  ... and {len(self.broken) - _SHOWN} more"] if len(self.broken) > _SHOWN else []),
            *(f"  note: {complaint}" for complaint in self.complaints[:_SHOWN]),
            f"history and logs: {self.folder}",
            "BROKEN" if self.broken else "all promises held",
        ]
        return "\n".join(lines)


def _cost(billing: Billing) -> str:
    """How what was billed twice compares with what was under way at the deaths."""
    line = (
        f"billed twice {billing.twice:,} texts; at {billing.disturbances:,} kills and stops "
        f"{billing.calls:,} calls ({billing.texts:,} texts) were in flight"
    )
    if not billing.twice:
        return line
    in_flight = billing.twice - billing.unwritten - billing.unexplained
    return (
        f"{line}: {in_flight:,} of these, {billing.unwritten:,} that were answered up to "
        f"{billing.oldest:.1f} s before and not stored yet, {billing.unexplained:,} for no such reason"
    )
