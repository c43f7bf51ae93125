"""Every command line that a page, a message or an alert tells somebody to run exists, with its options.

None is run. A word in capitals, a name in braces and an ellipsis stand for what the reader puts there.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from embedq.cli import main
from tests.support.pages import ROOT, pages

COMMAND = re.compile(r"^[ $]*(?:(?:\w+=\S* )*|docker compose .* |kubectl .* )(embedq [a-z-].*)$")
"""A line of a shell with a command of ours, perhaps in a container."""
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|\{.*\}|<.*>|…|\.\.\.")
TARGET = re.compile(r"^([a-z][a-z-]*):.*## ", re.MULTILINE)


def test_every_command_of_the_pages_exists() -> None:
    """In blocks whole commands; in the prose perhaps only their names."""
    wrong = []
    for page in pages():
        lines = [(line, True) for block in page.blocks for line in commands_in(block)]
        lines += [(span, False) for span in page.spans if span.startswith("embedq ")]
        wrong += [
            f"{page.name}: {line}: {fault}" for line, whole in lines if (fault := fault_of(line, whole))
        ]
    assert wrong == []


def test_every_command_of_the_messages_exists() -> None:
    """What the program says in its errors, logs and help, and what the alerts say."""
    wrong = []
    for path, text in messages():
        spans = re.findall(r"`(embedq [^`]+)`", text)
        wrong += [f"{path.name}: {span}: {fault}" for span in spans if (fault := fault_of(span, False))]
    assert wrong == []


def test_every_target_of_make_exists() -> None:
    """Those that a page names."""
    targets = set(TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
    assert "test" in targets
    named = {
        (page.name, found[1])
        for page in pages()
        for code in (*page.blocks, *page.spans)
        for found in re.finditer(r"^ *make ([a-z][a-z-]*)", code, re.MULTILINE)
    }
    assert {(page, target) for page, target in named if target not in targets} == set()
    assert named


@pytest.mark.parametrize(
    ("line", "whole", "fault"),
    [
        ("embedq enqueue docs texts.jsonl --lane bulk --wait", True, ""),
        ("embedq collection create docs --model m", True, ""),
        ("embedq limits set MODEL --requests-per-minute N", True, ""),
        ("embedq health [--live] [--processes N]", True, ""),
        ("embedq limits set", False, ""),
        ("embedq no-such", False, "no command no-such"),
        ("embedq index no-such", False, "no command no-such"),
        ("embedq enqueue docs texts.jsonl --lane slow", True, "'slow' is not one of"),
        ("embedq enqueue docs texts.jsonl --no-such", False, "No such option"),
        ("embedq limits set", True, "lacks model"),
        ("embedq limits", True, "lacks a command"),
        ("embedq worker more", False, "takes no more"),
        ("embedq worker --processes many", True, "not a valid int"),
    ],
)
def test_faults_are_found(line: str, whole: bool, fault: str) -> None:
    """Of names, options, values and arguments; and none where there is none."""
    said = fault_of(line, whole)
    assert fault.lower() in said.lower()
    assert bool(fault) == bool(said)


def test_lines_are_found() -> None:
    """Whatever stands before and after the command."""
    block = (
        "$ A=b embedq migrate   # the schema\ndocker compose exec worker embedq status | less\n"
        "embedq enqueue \\\n    docs - < file\nprint(embedq)\n"
    )
    assert list(commands_in(block)) == ["embedq migrate", "embedq status", "embedq enqueue docs -"]


def commands_in(block: str) -> Iterator[str]:
    """The commands of ``embedq`` in the lines of a shell, without what is piped in or out."""
    for line in block.replace("\\\n", " ").splitlines():
        if found := COMMAND.match(line):
            lexer = shlex.shlex(found[1], posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            yield shlex.join(takewhile(lambda word: word[0] not in "|&;<>", lexer))


def messages() -> Iterator[tuple[Path, str]]:
    """Every string of the packages' code, their SQL, and the alerts, of files that name a command."""
    code = [path for folder in ("producer", "worker", "sql") for path in sorted((ROOT / folder).rglob("*.*"))]
    for path in [*code, ROOT / "docker/prometheus/alerts.yaml"]:
        if path.suffix in (".py", ".sql", ".yaml") and "`embedq " in (text := path.read_text("utf-8")):
            texts = strings(ast.parse(text)) if path.suffix == ".py" else [text]
            yield from ((path, re.sub(r"\{\{.*?\}\}", "{it}", each)) for each in texts)


def strings(tree: ast.AST) -> Iterator[str]:
    """Its strings; what an f-string puts in is a name in braces."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "{it}"
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def fault_of(line: str, whole: bool) -> str:
    """What is wrong with a command line; empty if nothing is. Unless it is whole, words may be missing."""
    words = shlex.split(re.sub(r"(?<!\S)\[|\](?!\S)", "", line))
    command, context, left = named([word for word in words[1:] if not word.startswith("--{")])
    if isinstance(command, click.Group):
        if left and not left[0].startswith("-") and not PLACEHOLDER.fullmatch(left[0]):
            return f"no command {left[0]}"
        return "lacks a command" if whole and not left else ""
    return fault_of_call(command, context, left, whole)


def named(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that the first words name, and the words after these."""
    command: click.Command = main
    context = click.Context(main, info_name="embedq")
    while words and isinstance(command, click.Group):
        below = command.get_command(context, words[0])
        if below is None:
            break
        command, context, words = below, click.Context(below, context, words[0]), words[1:]
    return command, context, words


def fault_of_call(command: click.Command, context: click.Context, words: list[str], whole: bool) -> str:
    """What is wrong with a command's options and arguments."""
    params = {param.name: param for param in command.get_params(context)}
    try:
        values, left, _ = command.make_parser(context).parse_args(list(words))
        given = {name: value for name, value in values.items() if is_given(value)}
        for name, value in given.items():
            convert(params[name], value, context)
    except click.BadOptionUsage as error:
        return error.format_message() if whole else ""  # named without its value
    except click.UsageError as error:
        return error.format_message()
    if left and not PLACEHOLDER.fullmatch(left[0]):
        return f"takes no more: {left[0]}"
    lacking = {name for name, param in params.items() if param.required} - given.keys()
    return f"lacks {', '.join(map(str, lacking))}" if whole and lacking else ""


def is_given(value: object) -> bool:
    """Whether a command line has this option or argument: click has a mark of its own for none."""
    return value != () and isinstance(value, str | bool | int | list | tuple)


def convert(param: click.Parameter, value: object, context: click.Context) -> None:
    """Have an option's or argument's type read what was given. A file need not be there."""
    for each in value if isinstance(value, list | tuple) else [value]:
        is_text = isinstance(each, str) and not PLACEHOLDER.fullmatch(each)
        if is_text and not isinstance(param.type, click.Path | click.File):
            param.type.convert(each, param, context)
