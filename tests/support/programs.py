"""System programs that some tests need and no wheel brings.

Where one is missing its tests are skipped, and say how to install it. With ``CI=true`` in the environment it
is a failure: ``.ci/run`` installs them all.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

_PACKAGES = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-cli": "redis-tools",
}
"""The Debian package of each program."""


def needs(program: str) -> str:
    """The path of ``program``, for a test that cannot do without it."""
    path = shutil.which(program)
    if path is None:
        lack(f"{program} is not installed; on Debian and Ubuntu run 'apt-get install {_PACKAGES[program]}'")
    return path


def lack(reason: str) -> NoReturn:
    """End a test that cannot do without something: skipped, and in CI failed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
