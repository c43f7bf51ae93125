"""Drift, with real workers: noise is quiet, another model is found, and a person may accept it."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from embedq.cli import main
from embedq.testing import faults
from tests.support.stack import DIMENSIONS, MODEL, Stack

DRIFTS = f"model {MODEL} drifts"
OFTEN = 0.0001
"""Hours: 0.36 s."""


def embedq(stack: Stack, *arguments: str, code: int = 0) -> Result:
    """Run a command in this process, and hold its exit code."""
    result = CliRunner().invoke(main, arguments, env=stack.environment)
    assert result.exit_code == code, result.output
    return result


def check(stack: Stack, code: int = 0) -> dict[str, Any]:
    """Have the model checked, and hold the exit code; what scripts are told."""
    [said] = json.loads(embedq(stack, "drift", "check", MODEL, "--json", code=code).stdout)
    assert isinstance(said, dict)
    return said


def test_another_model_is_found_within_one_check(stack: Stack) -> None:
    """Said once, also with the cache of vectors on, until it is accepted."""
    stack.configure("[worker]\nvector_cache_days = 30\n")
    stack.create("docs")
    with stack.worker() as worker:
        first = check(stack)
        stack.api.inject(faults.Noise(1e-5))
        noisy = check(stack)
        stack.api.reset()
        stack.api.configure(salt="another model: ")
        found = check(stack, 1)
        page = embedq(stack, "drift", "list").output
        accepted = embedq(stack, "drift", "accept", MODEL).output
        after = check(stack)
    assert stack.api.stats().calls == 2, "since the reset: a check is a call"
    assert (first["distance"], first["drifts"]) == (0.0, False)
    assert noisy["distance"] == pytest.approx(1e-5, rel=0.05)
    assert not noisy["drifts"]
    assert found["distance"] > 0.5
    assert (found["dimensions"], found["is_changed_here"]) == (DIMENSIONS, False)
    assert worker.output.count(DRIFTS) == 1
    assert "nothing was changed here, so that the service gives another model" in worker.output
    assert f"embedq drift accept {MODEL}" in page
    assert stack.sql("SELECT purpose, sum(calls) FROM embedq.usage GROUP BY purpose") == [("drift", 4)]
    assert "DRIFTS since" in page
    assert MODEL in accepted
    assert (after["distance"], after["drifts"]) == (0.0, False)
    assert after["first_at"] > first["first_at"]
    assert stack.sql("SELECT count(*) FROM embedq.vector_cache") == [(0,)]


def test_rows_of_another_model_are_embedded_again(stack: Stack) -> None:
    """As docs/drift.md says, once the model is back."""
    stack.configure("[worker]\nvector_cache_days = 30\n")
    stack.create("docs")
    forget = re.findall(r"^ +((?:UPDATE|DELETE) .*;)$", Path("docs/drift.md").read_text(), re.MULTILINE)
    assert len(forget) == 2
    with stack.worker(), stack.producer() as producer:
        stack.api.configure(salt="another model: ")
        producer.enqueue("docs", id="1", text="a text")
        stack.wait_until_done()
        with pytest.raises(AssertionError, match="the vector of 1 is not its text's"):
            stack.stored("docs")
        stack.api.configure(salt="")
        with psycopg.connect(stack.database_url) as connection:
            for each in forget:
                connection.execute(each)
        producer.enqueue("docs", id="1", text="a text")
        stack.wait_until_done()
    assert stack.stored("docs") == {"1": "a text"}


def test_the_fleet_checks_once_in_a_period(stack: Stack) -> None:
    """However many processes see that a check is due."""
    stack.configure(f"[worker]\ndrift_hours = {OFTEN}\n")
    stack.create("docs")
    with stack.worker(processes=2):
        stack.api.wait_for(calls=3, timeout=20)
    calls = [call.at for call in stack.api.calls(MODEL)]
    assert min(later - earlier for earlier, later in pairwise(calls)) >= OFTEN * 3600


def test_commands_say_what_to_do(stack: Stack) -> None:
    """Without a collection, without a check, without a worker, and of a model that only workers know."""
    nothing = embedq(stack, "drift", "list")
    unused = embedq(stack, "drift", "check", "theirs", code=1).stderr
    stack.create("docs")
    page = embedq(stack, "drift", "list").output
    unchecked = embedq(stack, "drift", "accept", MODEL, code=1).stderr
    idle = embedq(stack, "drift", "check", MODEL, "--timeout", "0.1", code=1).stderr

    assert (nothing.stdout, nothing.stderr) == ("", "no collection uses a model yet\n")
    assert json.loads(embedq(stack, "drift", "list", "--json").stdout)[0]["checked_at"] is None
    assert "no collection uses model theirs" in unused
    assert page == f"{MODEL}  {DIMENSIONS} dimensions; not checked yet\n"
    assert f"run `embedq drift check {MODEL}`" in unchecked
    assert "no worker has checked" in idle
