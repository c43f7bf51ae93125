"""Options whose value is a JSON object, such as filters of metadata."""

from __future__ import annotations

import click
import msgspec


def json_object(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    """The callback of such an option: the JSON as it is given. Raises ``click.BadParameter``."""
    if given is not None:
        try:
            msgspec.json.decode(given, type=dict)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            wanted = 'give a JSON object, such as \'{"lang": "en"}\''
            raise click.BadParameter(wanted, context, parameter) from None
    return given
