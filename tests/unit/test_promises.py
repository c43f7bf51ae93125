"""docs/promises.md: each promise names its tests, and these exist."""

from __future__ import annotations

import re

from tests.support.pages import ROOT

PAGE = (ROOT / "docs/promises.md").read_text("utf-8")
TARGETS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def rows() -> dict[str, str]:
    """What tests each promise."""
    cells = (line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| **"))
    return {promise.strip(): tests for promise, *_, tests in cells}


def test_every_promise_is_tested() -> None:
    """By a file of `make test` or by a target."""
    assert len(rows()) > 20
    untested = [promise for promise, tests in rows().items() if not named(tests)]
    assert untested == []


def test_every_test_that_is_named_exists() -> None:
    """Files hold a test; targets are in the Makefile."""
    assert [name for name in named(PAGE) if not exists(name)] == []
    assert not exists("tests/unit/test_nothing.py")
    assert not exists("make nothing")


def named(text: str) -> list[str]:
    """The files and targets that a text names."""
    return re.findall(r"`(tests/[\w/]+\.py|make [a-z-]+)`", text)


def exists(name: str) -> bool:
    """Whether a file has a test, or a target is there."""
    if name.startswith("make "):
        return name.removeprefix("make ") in TARGETS
    path = ROOT / name
    return path.is_file() and "\ndef test_" in path.read_text("utf-8").replace("async def", "def")
