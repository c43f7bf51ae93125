"""The Lua scripts that move messages between queues and hands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from redis.exceptions import NoScriptError


@dataclass(frozen=True, slots=True)
class Script:
    """A script by its text and digest."""

    text: str
    digest: str

    def run(self, client: object, keys: list[str], arguments: list[str]) -> object:
        """Run it through a redis-py client and wait for the reply.

        The text is sent only where it is missing.
        """
        evaluate = client.execute_command  # type: ignore[attr-defined]  # any redis-py client, prefixed or not
        try:
            return evaluate("EVALSHA", self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return evaluate("EVAL", self.text, len(keys), *keys, *arguments)


def load(name: str) -> Script:
    """The script of that name beside this module."""
    text = (files(__package__) / f"{name}.lua").read_text()
    return Script(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - Redis names scripts by SHA-1


FETCH = load("fetch")
GIVE_BACK = load("give_back")
BEAT = load("beat")
TAKE_OVER = load("take_over")
CLAIM_SUSPECTS = load("claim_suspects")
TAKE_SUSPECTS = load("take_suspects")
TAKE_KILLERS = load("take_killers")
RECORDED = load("recorded")
LEAVE = load("leave")
