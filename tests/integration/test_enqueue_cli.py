"""The command ``embedq`` and its ``enqueue``, as a process."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import redis

from embedq.cli import _SUMMARIES
from embedq.contract import UNACKED_KEY
from tests.support.loading import EMBEDQ, enqueued_ids, run

SECRET = "what the customer wrote"


def lines(*values: object) -> bytes:
    """Values as JSON Lines; bytes as they are."""
    return b"".join(
        (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n" for value in values
    )


def test_a_file_is_enqueued(environment: dict[str, str], redis_of_docs: redis.Redis, tmp_path: Path) -> None:
    """Items of every kind go to the lane; one line counts them, nothing else is printed."""
    file = tmp_path / "texts.jsonl"
    file.write_bytes(
        b"\xef\xbb\xbf"
        + lines(
            {"id": "1", "text": "a"},
            b"",
            {"id": "2", "text": "b", "metadata": {"k": 1}},
            {"id": "3", "deleted": True},
        )
    )
    ended = run(environment, "enqueue", "docs", str(file), "--lane", "bulk", "--source", "loader")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("3 items enqueued to docs in ")
    assert enqueued_ids(redis_of_docs, "embedq.docs.bulk") == ["1", "2", "3"]


def test_bad_lines_cost_no_good_one(environment: dict[str, str], redis_of_docs: redis.Redis) -> None:
    """Bad lines are named by number and reason, never by text; good ones are enqueued; exit code 1."""
    ended = run(
        environment, "enqueue", "docs", "-",
        stdin=lines(
            {"id": "1", "text": SECRET}, b'{"id": "2", "text": "' + SECRET.encode(), {"id": "3", "text": "a"},
            {"id": "4", "text": SECRET + "\0"}, [SECRET], b'{"id": "6", "text": "\xff"}', b"[" * 5_000,
            {"id": "8", "text": "a", "version": 7}, {"id": "9", "text": "last"},
        ),
    )  # fmt: skip

    assert ended.returncode == 1
    assert enqueued_ids(redis_of_docs, "embedq.docs") == ["1", "3", "9"]
    assert [line.split(":")[1] for line in ended.stderr.splitlines()] == ["2", "4", "5", "6", "7", "8"]
    assert [line.rpartition("(")[2] for line in ended.stderr.splitlines()] == [
        "not_json)", "text_nul)", "item_type)", "not_json)", "not_json)", "version_given)",
    ]  # fmt: skip
    assert ended.stdout.startswith("3 items enqueued to docs")
    assert "6 bad lines left out" in ended.stdout
    assert SECRET not in ended.stdout + ended.stderr


def test_many_bad_lines_are_counted(environment: dict[str, str], redis_of_docs: redis.Redis) -> None:
    """Ten are shown, all are counted, and the good one behind them arrives."""
    ended = run(environment, "enqueue", "docs", "-", stdin=lines(*[b"?"] * 1_000, {"id": "1", "text": "a"}))

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 11
    assert "1,000 bad lines left out" in ended.stdout
    assert enqueued_ids(redis_of_docs, "embedq.docs") == ["1"]


def test_a_line_too_long_is_passed_over(environment: dict[str, str], redis_of_docs: redis.Redis) -> None:
    """A line of 20 MB is one bad line; numbers and items behind it are right."""
    ended = run(
        environment, "enqueue", "docs", "-", stdin=lines(b"x" * 20_000_000, {"id": "1", "text": "a"}, b"?")
    )

    assert [line.split(":")[1] for line in ended.stderr.splitlines()] == ["1", "3"]
    assert "line_too_long" in ended.stderr
    assert enqueued_ids(redis_of_docs, "embedq.docs") == ["1"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["enqueue", "docz", "-"], 1, "embedq: collection 'docz' is not registered; registered: docs, rows."),
        (["enqueue", "docs", "/nowhere.jsonl"], 2, "No such file"),
        (["enqueue", "docs", "-", "--lane", "query"], 2, "'query' is not one of"),
        (["enqueue"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
        (
            ["enqueue", "docs", "-", "--broker-url", "redis://127.0.0.1:1"],
            1,
            "embedq: Redis at redis://127.0.0.1:1",
        ),
        (["enqueue", "docs", "-", "--broker-url", "amqp://"], 1, "scheme 'amqp'"),
    ],
    ids=["collection", "file", "lane", "usage", "command", "broker", "url"],
)
@pytest.mark.usefixtures("redis_of_docs")
def test_mistakes_are_explained(
    environment: dict[str, str], arguments: list[str], code: int, said: str
) -> None:
    """What a person gets wrong ends in a sentence on standard error and its exit code, with no traceback."""
    ended = run(environment, *arguments, stdin=lines({"id": "1", "text": SECRET}))

    assert ended.returncode == code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert code == 2 or len(ended.stderr.splitlines()) == 1


def test_wait_ends_when_nothing_is_in_hand(environment: dict[str, str], redis_of_docs: redis.Redis) -> None:
    """``--wait`` goes on while a message is queued, goes on while it is in hand, and ends then."""
    arguments = [EMBEDQ, "enqueue", "docs", "-", "--wait"]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines({"id": "1", "text": "a"}))
        process.stdin.close()
        process.stdout.readline()  # the summary: it waits now
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        with redis_of_docs.pipeline(transaction=True) as fetch:
            fetch.hset(UNACKED_KEY, "tag", "a message")
            fetch.lpop("embedq.docs")
            fetch.execute()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        redis_of_docs.delete(UNACKED_KEY)

        assert process.wait(10) == 0
        assert b"nothing is in hand" in process.stdout.read()


def test_ctrl_c_ends_a_wait(environment: dict[str, str], redis_of_docs: redis.Redis) -> None:
    """An interrupted wait ends with an exit code and without a traceback; what was enqueued stays."""
    arguments = [EMBEDQ, "enqueue", "docs", "-", "--wait"]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(lines({"id": "1", "text": "a"}))
        process.stdin.close()
        process.stdout.readline()  # the summary: it waits now
        process.send_signal(signal.SIGINT)

        assert process.wait(10) == 1
        assert b"Traceback" not in process.stderr.read()
    assert redis_of_docs.llen("embedq.docs") == 1


def test_a_terminal_sees_a_bar(
    environment: dict[str, str], redis_of_docs: redis.Redis, tmp_path: Path
) -> None:
    """With a terminal on standard error a bar is drawn; the counts on standard output stay one line."""
    file = tmp_path / "texts.jsonl"
    file.write_bytes(lines(*({"id": str(number), "text": "a"} for number in range(2_000))))
    ours, its = pty.openpty()
    try:
        ended = subprocess.run(
            [EMBEDQ, "enqueue", "docs", str(file)], stdout=subprocess.PIPE, stderr=its,
            env={**environment, "TERM": "xterm"}, timeout=30,
        )  # fmt: skip
        drawn = os.read(ours, 65_536)
    finally:
        os.close(its)
        os.close(ours)

    assert ended.returncode == 0
    assert b"enqueue to docs" in drawn
    assert ended.stdout.count(b"\n") == 1
    assert len(enqueued_ids(redis_of_docs, "embedq.docs")) == 2_000


def test_help_names_every_command_and_imports_none() -> None:
    """The list of commands has a line for each entry point and imports no module of theirs."""
    program = (
        "import sys; sys.argv = ['embedq', '--help']\n"
        "import embedq.cli\n"
        "try: embedq.cli.main()\n"
        "finally: print([name for name in sys.modules if name.startswith(('embedq_worker', 'embedq.cli.e'))])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    names = {entry.name for entry in entry_points(group="embedq.commands")}

    assert names == set(_SUMMARIES)
    assert all(f"  {name} " in ended.stdout for name in names)
    assert ended.stdout.endswith("[]\n")


def test_enqueue_has_help_with_an_example(environment: dict[str, str]) -> None:
    """``--help`` shows how a call looks."""
    ended = run(environment, "enqueue", "--help")

    assert ended.returncode == 0
    assert "Example:\n    embedq enqueue docs texts.jsonl" in ended.stdout


def test_the_version(environment: dict[str, str]) -> None:
    """``--version`` is one line."""
    ended = run(environment, "--version")

    assert ended.returncode == 0
    assert ended.stdout.startswith("embedq ")


def test_a_missing_extra_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    """A command whose packages are not installed says what to install, with exit code 2."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['psycopg'] = None\nsys.modules['httpx'] = None\n"
    )
    metadata = tmp_path / "needy-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: needy\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[embedq.commands]\nneedy = needy_command:needy\n")
    (tmp_path / "needy_command.py").write_text("import psycopg\n")
    ended = run({**environment, "PYTHONPATH": str(tmp_path)}, "needy")

    assert ended.returncode == 2
    assert "pip install 'embedq[worker]'" in ended.stderr
    assert "Traceback" not in ended.stderr
