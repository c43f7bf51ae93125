"""The tree of the worker's exceptions."""

from __future__ import annotations

import re

from embedq.errors import EmbedqError
from embedq_worker import errors

NODE = re.compile(r"^    (?P<stems>[│ ]*[├└]── )?(?P<name>[A-Z]\w+)( |$)", re.MULTILINE)


def drawn() -> dict[str, str]:
    """The names that the module's docstring draws, with the one above each."""
    above: list[str] = []
    parents: dict[str, str] = {}
    for node in NODE.finditer(errors.__doc__ or ""):
        depth = len(node["stems"] or "") // 4
        above[depth:] = [node["name"]]
        parents[node["name"]] = above[depth - 1] if depth else EmbedqError.__name__
    return parents


def test_the_tree_is_drawn_as_it_is() -> None:
    """Each class below the one that it is derived from."""
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    ours = [each for each in classes if each.__module__ == errors.__name__ and issubclass(each, Exception)]
    assert drawn() == {each.__name__: each.__base__.__name__ for each in ours if each.__base__}
