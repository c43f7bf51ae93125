"""What the source says of the fields of a class: the strings that stand below them."""

from __future__ import annotations

import ast
import inspect
import textwrap


def field_docs(owner: type) -> dict[str, str]:
    """Name → what is said of it, in one line; fields of which nothing is said are left out."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    said: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = _string(below)
            if text is not None:
                said[field.target.id] = " ".join(text.replace("``", "`").split())
    return said


def _string(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return node.value.value if isinstance(node.value.value, str) else None
    return None
