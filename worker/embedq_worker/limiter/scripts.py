"""The script that holds the limits: one text, put together from the files in ``lua/``.

Redis scripts cannot include one another, so that the files, one noun each, are joined in the order of their
use.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from embedq_worker.script import Script

_HEAD = "#!lua flags=allow-oom\n"
"""A full Redis must run it too: a lease is a few bytes, and without one nothing drains the queues."""
_CLOCK = "clock"
_FILES = ("state", "leases", "rates", "adapt", "pause", "turns", "exchange")


def read_lua(name: str) -> str:
    """The content of one file."""
    return (files("embedq_worker.limiter") / "lua" / f"{name}.lua").read_text("utf-8")


@cache
def exchange_script(clock: str | None = None) -> Script:
    """The whole script; ``clock`` is another text for ``clock.lua``, for time that is not the server's."""
    return Script(_HEAD + "\n".join([clock or read_lua(_CLOCK), *map(read_lua, _FILES)]))
