"""Figures of a scenario, and whether they are within their bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.fleet import Fleet
from tests.simulation.world import World


@dataclass
class Figure:
    """One number; ``form`` is its format, the bounds are inclusive."""

    value: float
    form: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether it is within its bounds."""
        too_low = self.at_least is not None and not self.value >= self.at_least
        too_high = self.at_most is not None and not self.value <= self.at_most
        return not (too_low or too_high)

    def __str__(self) -> str:
        """The number, with its bounds."""
        bounds = [
            f"{word} {self.form.format(bound)}"
            for word, bound in (("at least", self.at_least), ("at most", self.at_most))
            if bound is not None
        ]
        text = self.form.format(self.value)
        return f"{text:>14}" + (f"   {', '.join(bounds)}" if bounds else "")


@dataclass
class Report:
    """What one scenario showed."""

    title: str
    figures: dict[str, Figure] = field(default_factory=dict)

    def add(
        self,
        name: str,
        value: float,
        form: str = "{:,.0f}",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """One figure more."""
        self.figures[name] = Figure(value, form, at_most, at_least)

    def __getitem__(self, name: str) -> float:
        """A figure's value."""
        return self.figures[name].value

    @property
    def failures(self) -> list[str]:
        """The names of figures that are out of their bounds."""
        return [name for name, figure in self.figures.items() if not figure.is_good]

    def __str__(self) -> str:
        """A block of lines."""
        lines = [
            f"  {name:44}{figure}{'' if figure.is_good else '   <-- OUT OF BOUNDS'}"
            for name, figure in self.figures.items()
        ]
        return "\n".join([self.title, *lines])

    def add_promises(self, *worlds: World, overshoot: int = 0) -> None:
        """What must hold in each scenario: no live holder is one too many, no minute above its limit."""
        over = max(world.audit.overshoot for world in worlds)
        self.add("calls above the limit, live holders", over, at_most=overshoot)
        for world in worlds:
            limits, seen = world.limits, world.service.seen
            if limits.requests_per_minute:
                name = f"{world.name}: requests, busiest minute"
                self.add(name, seen.busiest_requests, at_most=limits.requests_per_minute)
            if limits.tokens_per_minute:
                self.add(
                    f"{world.name}: tokens, busiest minute",
                    seen.busiest_tokens,
                    at_most=limits.tokens_per_minute,
                )

    def add_redis(self, fleet: Fleet, seconds: float, exchanges: int, looks: int) -> None:
        """What Redis had to do meanwhile. Its processor time is real, that of this machine."""
        self.add("exchanges a second", exchanges / seconds)
        self.add("mailbox look-ups a second", looks / seconds)
        self.add("Redis CPU of an exchange, µs", fleet.server.real_cost())
        self.add("Redis commands inside an exchange", fleet.server.commands_inside(), "{:.1f}")
        self.add("of one Redis core", exchanges / seconds * fleet.server.real_cost() / 1e6, "{:.1%}")
