"""The demo's corpus: the docstrings of a folder of Python files, parsed and never imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from embedq.contract import Item, check_item
from embedq_worker.demo.corpus import LEAST_CHARACTERS, module_name, read_corpus, standard_library

LONG = "A docstring that is long enough to be found by what it means."
READ_ALL = """
import sys
from embedq_worker.demo.corpus import read_corpus, standard_library
folder = standard_library()
before = set(sys.modules)
count = sum(1 for item in read_corpus(folder))
new = {name for name in set(sys.modules) - before if not name.startswith("encodings.")}
assert not new, new
print(count)
"""
"""Decoding a file may load its codec; nothing else may be imported."""


@pytest.fixture(scope="module")
def standard() -> list[Item]:
    """The corpus of the Python that runs the tests."""
    return list(read_corpus(standard_library()))


def write(folder: Path, name: str, source: str) -> None:
    """Write a file of the folder that is to be read."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))


def ids(folder: Path) -> list[str]:
    """The ids that are read."""
    return [item.id for item in read_corpus(folder)]


def test_several_thousand_texts(standard: list[Item]) -> None:
    """Enough for a demo, each id once, each one an item that a producer takes."""
    assert 3_000 < len(standard) < 20_000
    assert len({item.id for item in standard}) == len(standard)
    for item in standard:
        check_item(item)
        assert item.text is not None
        assert len(item.text) >= LEAST_CHARACTERS


def test_known_names(standard: list[Item]) -> None:
    """Modules, classes and methods have the names that people know; tests and private names are not in."""
    found = {item.id: item for item in standard}
    method = found["zipfile.ZipFile.open"]
    assert method.metadata is not None
    assert method.metadata["kind"] == "function"
    assert method.metadata["module"] == "zipfile"
    assert method.metadata["file"] in ("zipfile.py", "zipfile/__init__.py")
    assert found["functools.lru_cache"].text is not None
    assert {item.metadata["kind"] for item in standard if item.metadata} == {"module", "class", "function"}
    assert not {name for name in found if ".test." in name or name.startswith(("test.", "_p", "_w"))}


def test_nothing_is_imported() -> None:
    """Reading the standard library leaves the interpreter's modules as they are."""
    done = subprocess.run([sys.executable, "-c", READ_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3_000


def test_names_and_kinds(tmp_path: Path) -> None:
    """What is defined in a class, or under a condition, is read; what is defined in a function is not."""
    source = f'''
        """Module: {LONG}"""
        class Outer:
            """Class: {LONG}"""
            def method(self):
                """Method: {LONG}"""
                def local():
                    """Local: {LONG}"""
        try:
            async def conditional():
                """Try: {LONG}"""
        except ImportError:
            def fallback():
                """Except: {LONG}"""
    '''
    write(tmp_path, "package/__init__.py", source)
    read = {item.id: (item.text, item.metadata) for item in read_corpus(tmp_path)}
    about = {"module": "package", "file": "package/__init__.py"}
    assert read == {
        "package": (f"Module: {LONG}", {**about, "kind": "module"}),
        "package.Outer": (f"Class: {LONG}", {**about, "kind": "class"}),
        "package.Outer.method": (f"Method: {LONG}", {**about, "kind": "function"}),
        "package.conditional": (f"Try: {LONG}", {**about, "kind": "function"}),
        "package.fallback": (f"Except: {LONG}", {**about, "kind": "function"}),
    }


def test_the_first_of_a_name_counts(tmp_path: Path) -> None:
    """A property and its setter are one id; a definition without a usable docstring does not take it."""
    source = f"""
        def twice(): "Too short."
        def twice(): "First: {LONG}"
        def twice(): "Second: {LONG}"
    """
    write(tmp_path, "module.py", source)
    assert [(item.id, item.text) for item in read_corpus(tmp_path)] == [("module.twice", f"First: {LONG}")]


@pytest.mark.parametrize(
    "name", ["test/a.py", "package/tests/a.py", "site-packages/a.py", "idlelib/a.py", "_private.py", "a.txt"]
)
def test_skipped_files(tmp_path: Path, name: str) -> None:
    """Tests, other people's packages, programs and private modules are left out."""
    write(tmp_path, name, f'"""{LONG}"""')
    write(tmp_path, "kept.py", f'"""{LONG}"""')
    assert ids(tmp_path) == ["kept"]


def test_bad_files_are_skipped(tmp_path: Path) -> None:
    """A file that is not text, has a syntax error or a NUL, or cannot be read does not end the reading."""
    (tmp_path / "binary.py").write_bytes(b'"""\xff\xfe' + LONG.encode() + b'"""')
    (tmp_path / "nul.py").write_bytes(b'"""' + LONG.encode() + b'"""\n\x00')
    (tmp_path / "dangling.py").symlink_to(tmp_path / "missing.py")
    write(tmp_path, "broken.py", f'"""{LONG}"""\ndef (:')
    write(tmp_path, "kept.py", f'"""{LONG}"""')
    assert ids(tmp_path) == ["kept"]


def test_texts_that_no_item_carries_are_skipped(tmp_path: Path) -> None:
    """Postgres holds neither NUL nor lone surrogates."""
    write(tmp_path, "nul.py", f'"""{LONG}\\0"""')
    write(tmp_path, "surrogate.py", f'"""{LONG}\\ud800"""')
    assert ids(tmp_path) == []


def test_other_encodings(tmp_path: Path) -> None:
    """A file's own declaration of its encoding is followed."""
    source = f'# -*- coding: latin-1 -*-\n"""Café: {LONG}"""'
    (tmp_path / "latin.py").write_bytes(source.encode("latin-1"))
    assert [item.text for item in read_corpus(tmp_path)] == [f"Café: {LONG}"]


def test_invalid_escapes_do_not_warn(tmp_path: Path) -> None:
    """Warnings about other people's source are not the reader's business; here they would be errors."""
    write(tmp_path, "escape.py", f'"""{LONG}\\d"""')
    assert ids(tmp_path) == ["escape"]


def test_module_names() -> None:
    """A package's file is the package."""
    assert module_name(Path("email/mime/__init__.py")) == "email.mime"
    assert module_name(Path("email/mime/text.py")) == "email.mime.text"
