"""The pages of docs/ that are made from the code are those of the code as it is, and leave nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from embedq_worker.catalogue import Model
from embedq_worker.catalogue.loading import FACTS, USER_KEYS
from embedq_worker.logs.form import PROCESS_NUMBER
from embedq_worker.settings import WorkerSettings
from tests.docs.docstrings import field_docs
from tests.support.variables import variables_read

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["settings", "commands"])
def test_pages_are_up_to_date(name: str) -> None:
    """``make docs`` was run after the last change. In a process of its own: click keeps what it made of a
    command's options when a test first ran it."""
    program = f"from tests.docs import {name}_page as page; print(page.render(), end='')"
    rendered = subprocess.run(
        [sys.executable, "-c", program], cwd=DOCS.parent, capture_output=True, text=True, check=True
    )
    assert (DOCS / f"{name}.md").read_text("utf-8") == rendered.stdout


def test_every_setting_is_on_its_page() -> None:
    """Variables, also those that only a command reads, and keys of the file."""
    page = (DOCS / "settings.md").read_text("utf-8")
    keys = {*WorkerSettings.__struct_fields__, *((FACTS | USER_KEYS) - {"api_key"}), "api_key_file"}
    missing = {name for name in variables_read() | keys if f"`{name}`" not in page}
    assert missing == {PROCESS_NUMBER}  # the supervisor's own


def test_every_key_says_what_breaks() -> None:
    """When it is too low, and when it is too high."""
    page = (DOCS / "settings.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", page, re.MULTILINE))
    silent = {
        name for name in WorkerSettings.__struct_fields__ if not {"Too low", "too high"} <= _said(rows[name])
    }
    assert silent == set()


def test_no_field_is_silent() -> None:
    """A field without a word would be an error of the page."""
    assert FACTS - {"max_inputs"} <= field_docs(Model).keys() | {"max_inputs"}


def _said(text: str) -> set[str]:
    return {word for word in ("Too low", "too high") if word.lower() in text.lower()}
