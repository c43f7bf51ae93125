"""A service in a process of its own, served by uvicorn on a free port."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

_RUNNING = re.compile(r"running on (http://\S+)")


@contextmanager
def served(application: str, folder: Path, environment: Mapping[str, str]) -> Iterator[httpx.Client]:
    """A client of ``application`` (``module:name``), of ``folder``. At the end it must stop well."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(folder), "--port", "0", application]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        with httpx.Client(base_url=_address(process), timeout=20) as client:
            yield client
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=20)
        print(complaints)  # shown beside a test that failed
    assert "Traceback" not in complaints


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := _RUNNING.search(line):
            return found[1]
    raise AssertionError("it did not start:\n" + "".join(lines))
