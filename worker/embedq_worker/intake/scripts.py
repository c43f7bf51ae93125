"""The Lua scripts that move messages between queues and hands."""

from __future__ import annotations

from importlib.resources import files

from embedq_worker.script import Script


def _load(name: str) -> Script:
    """The script of that name beside this module."""
    return Script((files(__package__) / f"{name}.lua").read_text("utf-8"))


FETCH = _load("fetch")
GIVE_BACK = _load("give_back")
BEAT = _load("beat")
TAKE_OVER = _load("take_over")
CLAIM_SUSPECTS = _load("claim_suspects")
TAKE_SUSPECTS = _load("take_suspects")
TAKE_KILLERS = _load("take_killers")
RECORDED = _load("recorded")
LEAVE = _load("leave")
REPORT = _load("report")
