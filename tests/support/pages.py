"""The project's Markdown pages, taken apart: what is prose, what is code, where links lead."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
"""Of the repository."""
_FENCE = re.compile(r"^(?P<mark>```+)[^\n]*\n(?P<code>.*?)^(?P=mark)[ \t]*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n+)+")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)[ #]*$", re.MULTILINE)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")


class Page(NamedTuple):
    """A page: where it is, and what it says."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def blocks(self) -> Iterator[str]:
        """Its blocks of code, fenced ones and indented ones."""
        yield from (found["code"] for found in _FENCE.finditer(self.text))
        yield from (found[0] for found in _INDENTED.finditer(_FENCE.sub("", self.text)))

    @property
    def spans(self) -> Iterator[str]:
        """What stands in backticks, each on one line."""
        yield from (" ".join(found[2].split()) for found in _SPAN.finditer(self._unblocked))

    @property
    def links(self) -> Iterator[str]:
        """The targets of its links and pictures."""
        yield from _LINK.findall(_SPAN.sub("`", self._unblocked))

    @property
    def anchors(self) -> set[str]:
        """The names by which a link may lead to its headings, as GitHub makes them."""
        seen: Counter[str] = Counter()
        anchors = set()
        for heading in _HEADING.findall(_FENCE.sub("", self.text)):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
            name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            anchors.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
        return anchors

    @property
    def _unblocked(self) -> str:
        return _INDENTED.sub("\n", _FENCE.sub("", self.text))


def pages() -> list[Page]:
    """Every page of the repository."""
    found = sorted(path for path in ROOT.rglob("*.md") if not _is_foreign(path))
    return [Page(path, path.read_text("utf-8")) for path in found]


def _is_foreign(path: Path) -> bool:
    """Whether it lies in a folder of a tool's."""
    folders = path.relative_to(ROOT).parts[:-1]
    return any(name.startswith(".") or name in ("build", "dist", "node_modules") for name in folders)
