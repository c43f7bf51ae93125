"""Keys of a settings table: refuse unknown ones, explain wrong values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from embedq.errors import ConfigurationError

T = TypeVar("T")
_LOCATED = re.compile(r"(?P<problem>.*) - at `\$\.?(?P<key>.*)`", re.DOTALL)


def similar(name: str, names: Iterable[str], most: int) -> list[str]:
    """The names that look most like one."""
    import difflib  # late: it is not for commands that go well

    return difflib.get_close_matches(name, list(names), n=most)


def check_keys(table: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise ``ConfigurationError`` for the first key that is not ``known``, with the one probably meant."""
    names = sorted(known)
    for key in table:
        if key not in names:
            close = similar(key, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
            raise ConfigurationError(f"{where}: unknown key {key!r}; {hint}")


def convert(values: Mapping[str, Any], type_: type[T], where: str) -> T:
    """Make a ``type_`` of the table; raise ``ConfigurationError`` that names the key and what it may hold."""
    for key, value in values.items():
        if value != value:  # only NaN, which passes every bound
            raise ConfigurationError(f"{where}: {key}: expected a number, got nan")
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as error:
        located = _LOCATED.fullmatch(str(error))
        text = f"{located['key']}: {located['problem']}" if located else str(error)
        raise ConfigurationError(f"{where}: {text}") from None
