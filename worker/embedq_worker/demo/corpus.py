"""A real corpus that every machine has: the docstrings of Python's standard library.

The source files are parsed and nothing is imported, so that no module's side effects run.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from embedq.contract import Item, check_item
from embedq.errors import InvalidItem

LEAST_CHARACTERS = 30
"""Shorter docstrings say too little to be found by their meaning."""

_SKIPPED = {
    *("test", "tests", "idle_test"),
    *("idlelib", "turtledemo"),
    *("distutils", "lib2to3"),  # gone from Python 3.12 and 3.13
    *("site-packages", "dist-packages"),
}
"""Folders of tests, programs, what Python itself gave up, and other people's packages."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def standard_library() -> Path:
    """The folder of the standard library's source files."""
    return Path(sysconfig.get_paths()["stdlib"])


def read_corpus(folder: Path) -> Iterator[Item]:
    """The docstrings of the Python files below ``folder``, as items, in the order of the files' names.

    An id is the qualified name (``zipfile.ZipFile.open``), the metadata ``module``, ``kind`` (module, class
    or function) and ``file``. Of several definitions with one name the first counts. Left out are private
    names, short docstrings, those that an item cannot carry, and files that this Python cannot parse.
    """
    seen: set[str] = set()
    for path in sorted(folder.rglob("*.py")):
        file = path.relative_to(folder)
        if _SKIPPED.isdisjoint(file.parts):
            for item in _items(path, file):
                if item.id not in seen and _is_usable(item):
                    seen.add(item.id)
                    yield item


def module_name(file: Path) -> str:
    """The name that the file's module is imported by; ``file`` is relative to a folder of ``sys.path``.

    >>> module_name(Path("email/mime/__init__.py"))
    'email.mime'
    """
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def _items(path: Path, file: Path) -> Iterator[Item]:
    tree = _parse(path)
    if tree is None:
        return
    module = module_name(file)
    for name, kind, text in _docstrings(tree, module, "module"):
        yield Item(name, text, metadata={"module": module, "kind": kind, "file": file.as_posix()})


def _parse(path: Path) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in other people's strings
        try:
            return ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return None


def _docstrings(node: ast.AST, name: str, kind: str) -> Iterator[tuple[str, str, str]]:
    """Name, kind and text of what is defined at module or class level, also below ``if`` and ``try``."""
    if isinstance(node, ast.Module | ast.ClassDef | _Function) and (text := ast.get_docstring(node)):
        yield name, kind, text
    if isinstance(node, _Function):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _docstrings(child, f"{name}.{child.name}", "class")
        elif isinstance(child, _Function):
            yield from _docstrings(child, f"{name}.{child.name}", "function")
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _docstrings(child, name, kind)


def _is_usable(item: Item) -> bool:
    if item.text is None or len(item.text) < LEAST_CHARACTERS or _is_private(item.id):
        return False
    try:
        check_item(item)
    except InvalidItem:
        return False
    return True


def _is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))
