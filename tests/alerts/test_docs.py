"""docs/alerts.md has a section for each alert, and for nothing else; each says the alert's severity."""

from __future__ import annotations

import re

from tests.alerts.rules import ROOT, read_rules

DOCS = ROOT / "docs/alerts.md"


def sections() -> dict[str, str]:
    """The text of each section by its heading."""
    parts = re.split(r"^## (\w+)$", DOCS.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    """In the file's order."""
    assert list(sections()) == [rule.name for rule in read_rules()]


def test_a_section_says_how_bad_it_is_and_what_to_do() -> None:
    """The severity first, and a list of what to look at."""
    for rule in read_rules():
        section = sections()[rule.name].strip()
        assert section.startswith(rule.severity), rule.name
        assert "\n* " in section, rule.name


def test_links_lead_somewhere() -> None:
    """Files and sections that the page names are there."""
    for target in re.findall(r"\]\(([^)]+)\)", DOCS.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        text = (DOCS.parent / name).read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, target
