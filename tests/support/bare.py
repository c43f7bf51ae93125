"""What other services install: an environment with nothing but the wheel and what it requires."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from tests.support.pages import ROOT


def run(*command: str | Path) -> str:
    """The output of a command that must succeed."""
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def bare_environment(folder: Path) -> Path:
    """Build the wheel and install it without extras; returns the environment's ``bin`` folder."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("embedq-*.whl")
    venv.create(folder / "env", with_pip=True)
    binaries = folder / "env" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    return binaries
