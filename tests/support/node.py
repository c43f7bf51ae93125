"""Node.js with the packages of docs/examples/node: installed once, for all processes of a test run."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess

from tests.support.pages import ROOT
from tests.support.programs import lack, needs

EXAMPLES = ROOT / "docs/examples/node"
_INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")


def node() -> str:
    """The path of ``node``; its packages are those of the lock file."""
    program, npm = needs("node"), needs("npm")
    with (EXAMPLES / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(npm, hashlib.sha256(lock.read()).hexdigest())
    return program


def _install(npm: str, digest: str) -> None:
    mark = EXAMPLES / "node_modules" / ".installed"
    if mark.is_file() and mark.read_text() == digest:
        return
    done = subprocess.run([npm, *_INSTALL], cwd=EXAMPLES, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lack(f"npm cannot install the packages of {EXAMPLES}:\n{done.stderr}")
    mark.write_text(digest)
