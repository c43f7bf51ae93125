"""How a model stands: its limits, from the file and live, and what the fleet does with them, in words."""

from __future__ import annotations

import click
import msgspec

from embedq_worker.catalogue import Catalogue
from embedq_worker.limiter import Limits
from embedq_worker.limiter.board import ModelBoard, Pause
from embedq_worker.limiter.exchange import Concurrency
from embedq_worker.limiter.live import LiveLimits

NAMES = LiveLimits.__struct_fields__
"""The settings that are limits, in the order in which people are shown them."""


class SaidLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits as scripts read them, each of them there; null: no limit."""

    max_concurrency: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: Concurrency


class Standing(ModelBoard, frozen=True, kw_only=True):
    """A model's board, beside the limits of this command's own file.

    ``slots`` is never None here but where neither the file nor the fleet says it.
    """

    file: SaidLimits | None
    """What this command's file says, catalogue included; None for a model that it does not have."""
    in_force: SaidLimits | None
    """The live limits over the file's. Right for workers with the same file."""


def standing_of(board: ModelBoard, catalogue: Catalogue) -> Standing:
    """Put the file's limits beside the board."""
    fields = msgspec.structs.asdict(board)
    model = catalogue.models.get(board.model)
    if model is None:
        return Standing(**fields, file=None, in_force=None)
    file = Limits.of(model)
    in_force = board.live.over(file)
    fields["slots"] = board.slots_under(in_force)
    return Standing(**fields, file=_said(file), in_force=_said(in_force))


def limits_in_words(each: Standing) -> dict[str, str]:
    """Each limit in force, and who says so."""
    return {name: _in_words(getattr(each.live, name), each.file, name) for name in NAMES}


def summary(each: Standing) -> str:
    """What the fleet does with the model now."""
    return (
        f"{each.model}  {_slots(each)}; {each.in_flight:,} in flight, {each.waiting:,} waiting, "
        f"processes at work: {each.processes:,}"
    )


def notes(each: Standing) -> list[str]:
    """Why the model is not called now, the worst first, and why its slots changed; often nothing."""
    lines = []
    if each.paused:
        paused = f"PAUSED for {duration(each.paused.seconds)}: {each.paused.reason}"
        lines += [click.style(paused, fg="red", bold=True), _next_probe(each.paused)]
    if each.held is not None:
        lines.append(
            f"Redis lost its memory: nothing is called for {duration(each.held)}, "
            "as calls from before may be in flight"
        )
    if each.cooling:
        lines.append(f"cooling down for {duration(each.cooling.seconds_left)}: {each.cooling.why}")
    if each.changed:
        ceiling = "" if each.ceiling is None else f"; ceiling {each.ceiling:,}"
        lines.append(f"slots changed {duration(each.changed.seconds_ago)} ago: {each.changed.why}{ceiling}")
    return lines


def duration(seconds: float) -> str:
    """Seconds in words, as exact as a person wants them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7_200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


def _slots(each: Standing) -> str:
    if each.slots is None:
        return "slots not known here"
    if each.in_force is None:
        return f"{each.slots:,} slots"
    if each.slots < each.in_force.max_concurrency:
        return f"{each.slots:,} of {each.in_force.max_concurrency:,} slots"
    return f"{each.slots:,} slots" + ("" if each.live.max_concurrency else " (file)")


def _next_probe(pause: Pause) -> str:
    if pause.is_probing:
        probe = "one call is trying now"
    elif pause.next_probe > 0:
        probe = f"one call tries again in {duration(pause.next_probe)}"
    else:
        probe = "the next call wanted tries again"
    return f"{probe}; texts wait, none is lost, and all go on by themselves once the service answers"


def _in_words(live: int | str | None, file: SaidLimits | None, name: str) -> str:
    written = "not known here" if file is None else _value(getattr(file, name))
    return f"{written} (file)" if live is None else f"{_value(live or None)} (live; file: {written})"


def _said(limits: Limits) -> SaidLimits:
    return SaidLimits(**msgspec.structs.asdict(limits))


def _value(value: int | str | None) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else value
