"""The worlds of the chaos harness, on the session's servers."""

from __future__ import annotations

from tests.chaos.conftest import make_world as make_world
