"""Every event that the worker says has a name of its own, and docs/logs.md tells what to do about it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "worker" / "embedq_worker"
DOCUMENT = (ROOT / "docs" / "logs.md").read_text("utf-8")
LEVELS = ("debug", "info", "warning", "error", "critical")
HEAD = {"timestamp", "level", "logger", "event", "message", "process", "pid"}


class Said(NamedTuple):
    """One place at which an event is said."""

    place: str
    level: str
    event: str
    fields: frozenset[str]
    sentence: str | None
    """None where it is not written at the call."""


def all_said() -> list[Said]:
    """Every call of a logger in the worker."""
    return [said for path in sorted(WORKER.rglob("*.py")) for said in said_in(path)]


def said_in(path: Path) -> Iterator[Said]:
    """The calls of one module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        called = node.func
        if isinstance(called.value, ast.Name) and called.value.id == "logger" and called.attr in LEVELS:
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            event, sentence = (value_of(argument) for argument in node.args)
            assert event is not None, f"{place}: the event's name is not written at the call"
            fields = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
            others = {"error", "traceback"} if any(not keyword.arg for keyword in node.keywords) else set()
            yield Said(place, called.attr, event, fields | others, sentence)


def value_of(argument: ast.expr) -> str | None:
    """A string that is written there."""
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def documented(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_worker_says_something() -> None:
    """Else the other tests would look at nothing."""
    assert len(all_said()) > 40


def test_nobody_logs_without_an_event() -> None:
    """The worker's modules have their logger from ``embedq_worker.logs``."""
    theirs = [str(path) for path in WORKER.rglob("*.py") if "getLogger(__name__)" in path.read_text("utf-8")]
    assert theirs == []


def test_names_are_names() -> None:
    """In one style; an event has one level wherever it is said."""
    levels: dict[str, str] = {}
    for said in all_said():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", said.event), said.place
        assert levels.setdefault(said.event, said.level) == said.level, said.place


def test_a_sentence_names_fields_that_are_given() -> None:
    """And no field has a name that every line uses."""
    for said in all_said():
        named = {name for _, name, _, _ in Formatter().parse(said.sentence or "") if name}
        assert named <= said.fields, said.place
        assert not said.fields & HEAD, said.place


def test_every_event_for_a_person_is_documented() -> None:
    """With its level, and what to do; and no other."""
    table = documented("What to do")
    said = {each.event: each.level for each in all_said() if LEVELS.index(each.level) >= 2}
    assert sorted((event.strip("`"), level) for event, level, *_ in table) == sorted(said.items())
    assert all(len(row) == 4 and all(row) for row in table)


def test_every_field_is_documented() -> None:
    """Those of every line, and those of events."""
    names = [name.strip("`") for row in documented("Fields") for name in row[0].split(", ")]
    assert sorted(names) == sorted(HEAD | {field for said in all_said() for field in said.fields})
