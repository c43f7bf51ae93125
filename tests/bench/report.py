"""Figures beside what they have to be, printed as they come, and once more as a table."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One figure; ``ok`` is None where nothing is wanted of it."""

    scenario: str
    figure: str
    measured: str
    wanted: str
    ok: bool | None

    @property
    def verdict(self) -> str:
        """One word, or none."""
        return {None: "", True: "ok", False: "MISSED"}[self.ok]


@dataclass
class Report:
    """The figures of all scenarios, and what the workers complained of in the current one."""

    rows: list[Row] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _scenario: str = ""

    def begin(self, scenario: str) -> None:
        """The rows that follow are of this scenario."""
        self._scenario = scenario
        self.complaints.clear()
        print(f"\n{scenario}", flush=True)

    def add(
        self,
        figure: str,
        value: float,
        form: str = "{:,.0f}",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """One figure more; the bounds are inclusive, and shown in its ``form``."""
        bounds = [
            f"{word} {form.format(bound)}"
            for word, bound in (("at least", at_least), ("at most", at_most))
            if bound is not None
        ]
        too_low = at_least is not None and not value >= at_least
        too_high = at_most is not None and not value <= at_most
        ok = not (too_low or too_high) if bounds else None
        self._add(Row(self._scenario, figure, form.format(value), ", ".join(bounds), ok))

    def fail(self, figure: str, what: str) -> None:
        """Something that should not have happened."""
        self._add(Row(self._scenario, figure, what, "", False))

    @property
    def missed(self) -> list[Row]:
        """What is not as it has to be."""
        return [row for row in self.rows if row.ok is False]

    def end(self) -> None:
        """Show what the workers complained of, if something was missed."""
        if any(row.scenario == self._scenario for row in self.missed):
            for line in self.complaints:
                print(f"    | {line}", flush=True)

    def table(self) -> str:
        """All rows, as Markdown."""
        lines = ["| scenario | figure | measured | wanted | |", "|---|---|---|---|---|"]
        rows = ((row.scenario, row.figure, row.measured, row.wanted, row.verdict) for row in self.rows)
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"  {row.figure:64}{row.measured:>14}   {row.wanted:34}{row.verdict}", flush=True)
