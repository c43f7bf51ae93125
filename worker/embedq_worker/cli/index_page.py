"""What `embedq index status` shows to a person."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from embedq.wording import counted
from embedq_worker.cli.sizes import size
from embedq_worker.cli.standing import duration
from embedq_worker.store.indexes.advice import Advice
from embedq_worker.store.indexes.status import Building, IndexReport, IndexStatus


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A collection's indexes, and what should be done about them."""

    report: IndexReport
    advice: list[Advice]


def page(found: Sequence[Page]) -> str:
    """All of them, one below the other."""
    lines = [line for each in found for line in _lines(each.report, each.advice)]
    return "\n".join(lines or ["no collections yet; create one with `embedq collection create`"])


def _lines(report: IndexReport, advice: Sequence[Advice]) -> list[str]:
    rows = (
        "table or a column is missing"
        if report.rows is None
        else f"{counted(report.rows, 'row')}, {report.dead_rows} dead"
    )
    lines = [
        f"{report.collection}  {rows}; {_searches(report)}; statistics of {duration(report.statistics_for)}"
    ]
    lines += [f"  {_index(each)}" for each in report.indexes]
    if report.building:
        lines.append(f"  building: {_building(report.building)}")
    return lines + [f"  {each.text}" for each in advice]


def _searches(report: IndexReport) -> str:
    if report.searched_by == report.quantization:
        return f"quantization {report.quantization}"
    return f"quantization {report.quantization}, searched by {report.searched_by}"


def _index(each: IndexStatus) -> str:
    kind = each.kind if each.quantization in (None, "none") else f"{each.kind} ({each.quantization})"
    needed = "" if each.needed_bytes is None else f" ({size(each.needed_bytes)} needed)"
    options = f", {', '.join(each.options)}" if each.options else ""
    state = "" if each.valid else ", not valid"
    return f"{each.name}  {kind}{options}{state}; {size(each.bytes)}{needed}; {each.scans} scans"


def _building(each: Building) -> str:
    share = f" {100 * each.done // each.total} %" if each.total else ""
    left = "" if each.seconds_left is None else f", about {duration(each.seconds_left)} left"
    return f"{each.phase}{share}{left}"
