"""Options of ``embedq collection migrate`` that cannot stand together are refused, not ignored."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from embedq.cli import main


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--switch", "--undo"], "give one step at a time, not --switch and --undo"),
        (["--status", "--rate", "3"], "--status fills no rows, so it takes no --rate"),
        (["--finish", "--rate", "3"], "--finish fills no rows, so it takes no --rate"),
        (["--switch", "--model", "other"], "--switch takes neither a model nor --dry-run"),
        (["--dry-run"], "give --model with --dimensions, --type and --dry-run"),
    ],
)
def test_options_that_cannot_stand_together(options: list[str], said: str) -> None:
    """Before anything is connected to."""
    result = CliRunner().invoke(main, ["collection", "migrate", "docs", *options])
    assert (result.exit_code, said in result.output) == (2, True), result.output
