"""``docs/settings.md``: every variable, every key of the file, as the code says it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from embedq_worker.catalogue import Model
from embedq_worker.catalogue.loading import FACTS, USER_KEYS
from embedq_worker.flower.access import Access
from embedq_worker.settings import Settings, WorkerSettings
from tests.docs.docstrings import field_docs

_HEAD = """\
# Settings

Made from the code by `make docs`; a test fails when this page is older. README.md shows those that most
people need.

A variable that is empty counts as unset. A key that embedq does not know, and a value that cannot be, is an
error that names it; a worker does not start then.

## Variables

"""
_FILE = """
## The file

TOML, named by `EMBEDQ_CONFIG`. Keys of the API stand in files of their own (`api_key_file`), never in it.

### [worker]

How one worker process works.

"""
_MODELS = """
### [models."NAME"]

Of a model of the catalogue ([models.md](models.md)), for the whole fleet unless it says otherwise:

"""
_FACTS = """
A model that the catalogue does not have needs its facts as well, `dimensions` at least:

"""
_OTHERS = {
    "api_key_file": "The file with the key for `base_url`, read again when it changes; a relative name is "
    "looked for beside this file. The key of `EMBEDQ_API_KEY` is never sent to a `base_url`.",
    "max_inputs": "Texts that a request is filled up to. Default 256, never above the model's own limit. Too "
    "low pays more round trips; too high makes answers of many megabytes, and fewer calls at a time.",
}
"""Keys that are no field, or another one."""


def render() -> str:
    """The page as Markdown."""
    facts = [name for name in Model.__struct_fields__ if name in FACTS and name != "max_inputs"]
    ours = [name for name in Model.__struct_fields__ if name in USER_KEYS - {"api_key", "max_inputs"}]
    return "".join(
        (
            _HEAD,
            _table(_variables()),
            _FILE,
            _table(_keys(WorkerSettings, list(WorkerSettings.__struct_fields__))),
            _MODELS,
            _table(_keys(Model, ours) | _OTHERS),
            _FACTS,
            _table(_keys(Model, [*facts, "max_inputs"])),
        )
    )


def _variables() -> dict[str, str]:
    """Variable → what the code says of it: a field's text begins with its variable."""
    found = {}
    for text in (*field_docs(Settings).values(), *field_docs(Access).values()):
        if match := re.match(r"`(EMBEDQ_[A-Z_]+)`", text):
            found[match[1]] = text.removeprefix(match[0]).lstrip(":, ")
    return found


def _keys(owner: type[Any], names: list[str]) -> dict[str, str]:
    said = field_docs(owner)
    fields = {field.name: field for field in msgspec.structs.fields(owner)}
    return {name: _in_toml(_with_default(said[name], fields[name])) for name in names}


def _in_toml(text: str) -> str:
    """TOML has no None: a key is there or not."""
    return re.sub(r"\bNone\b", "left out", text)


def _with_default(text: str, field: msgspec.structs.FieldInfo) -> str:
    if "efault" in text or field.default is msgspec.NODEFAULT or field.default in (None, "", ()):
        return text
    default = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}"
    return f"{text} Default {default}."


def _table(rows: dict[str, str]) -> str:
    lines = (f"| `{name}` | {text[0].upper()}{text[1:]} |\n" for name, text in rows.items())
    return "| | |\n|---|---|\n" + "".join(lines)
