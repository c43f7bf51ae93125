"""``docs/commands.md``: what each command says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import click

from embedq.cli import main

_HEAD = """\
# Commands

Made from the code by `make docs`; a test fails when this page is older.

Every command ends with 0, with 1 when it could not do what it was asked, or with 2 when it was asked wrongly.
Errors are one line on standard error that says what to do.

"""
_WIDTH = 100


def render() -> str:
    """The page as Markdown."""
    return _HEAD + "\n".join(
        _section(context)
        for context in _contexts(click.Context(main, info_name="embedq", **main.context_settings))
    )


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """The context of the command and of all below it, by name."""
    context.terminal_width = _WIDTH
    yield context
    if isinstance(context.command, click.Group):
        for name in sorted(context.command.list_commands(context)):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from _contexts(click.Context(command, parent=context, info_name=name))


def _section(context: click.Context) -> str:
    help_text = context.command.get_help(context)
    return f"## {context.command_path}\n\n```\n{help_text}\n```\n"
