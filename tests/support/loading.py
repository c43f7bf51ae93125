"""The command ``embedq`` as a process, and what it enqueued."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import redis

from tests.support.queued import items

_ROOT = Path(__file__).parents[2]
EMBEDQ = str(Path(sys.executable).with_name("embedq"))


def run(
    environment: dict[str, str], *arguments: str, stdin: bytes = b"", change: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``embedq`` with arguments, to its end; perhaps with a ``change`` (``tests.support.changed``)."""
    program = [EMBEDQ] if change is None else [sys.executable, "-m", "tests.support.changed", change]
    command = [*program, *arguments]
    ended = subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=30, cwd=_ROOT)
    return subprocess.CompletedProcess(
        ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode()
    )


def enqueued_ids(client: redis.Redis, queue: str) -> list[str]:
    """The ids on a queue, in order."""
    return [item.id for item in items(client, queue)]
