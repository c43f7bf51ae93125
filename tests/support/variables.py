"""The environment variables that the code reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def variables_read() -> set[str]:
    """The EMBEDQ_* names that are whole string constants of the code: docstrings only mention them."""
    sources = [*_ROOT.glob("producer/**/*.py"), *_ROOT.glob("worker/**/*.py")]
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    constants = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return {
        name for name in constants if isinstance(name, str) and re.fullmatch(r"EMBEDQ_[A-Z_]*[A-Z]", name)
    }
