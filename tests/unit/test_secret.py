"""Secrets that come from files: new keys are noticed, and a bad moment of the file costs no key."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from embedq_worker.secret import CHECK_SECONDS, FileSecret, Secret

FIRST, SECOND = "sk-first", "sk-second"
ALIKE = "sk-other"
"""Of the first's size."""


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now

    def pass_by(self) -> None:
        """Let the file be looked at again."""
        self.now += CHECK_SECONDS


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a key."""
    path = tmp_path / "key"
    path.write_text(f"{FIRST}\n")
    return path


def replace(file: Path) -> None:
    """Put another file in its place."""
    other = file.with_suffix(".new")
    other.write_text(SECOND)
    other.replace(file)


@pytest.mark.parametrize("change", [lambda file: file.write_text(SECOND), replace])
def test_a_new_key_is_used(file: Path, clock: Clock, change: Callable[[Path], object]) -> None:
    """A file that is written anew or replaced is read again, at most once a second."""
    secret = FileSecret(file, clock)
    change(file)

    assert secret.reveal() == FIRST
    clock.pass_by()
    assert secret.reveal() == SECOND


def test_a_swapped_link_is_followed(tmp_path: Path, clock: Clock) -> None:
    """A mounted Kubernetes secret is a link to a link to a folder, of which the second is replaced."""
    for folder, key in (("..one", FIRST), ("..two", ALIKE)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "key").write_text(key)
        os.utime(tmp_path / folder / "key", (0, 0))
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "key").symlink_to("..data/key")
    secret = FileSecret(tmp_path / "key", clock)

    (tmp_path / "..data_new").symlink_to("..two")
    (tmp_path / "..data_new").replace(tmp_path / "..data")
    clock.pass_by()

    assert secret.reveal() == ALIKE


def test_a_relative_path_stays_where_it_was(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that changes its folder finds its key again."""
    monkeypatch.chdir(file.parent)
    secret = FileSecret(Path(file.name), clock)
    file.write_text(SECOND)
    monkeypatch.chdir("/")
    clock.pass_by()

    assert secret.reveal() == SECOND


def to_pipe(file: Path) -> None:
    """Put a pipe in the file's place; who opens it waits for ever."""
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        to_pipe,
        lambda file: file.write_text("\n"),
        lambda file: file.write_text("a key\r\nx-other: header"),
        lambda file: file.write_bytes(b"\xff\xfe"),
    ],
    ids=["missing", "a pipe", "empty", "malformed", "not text"],
)
def test_the_last_good_key_stays(
    file: Path, clock: Clock, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """What is no key is said once, by the file's name alone; a new key is used, new trouble said again."""
    secret = FileSecret(file, clock)
    spoil(file)
    for _ in range(3):
        clock.pass_by()
        assert secret.reveal() == FIRST
    replace(file)
    clock.pass_by()
    assert secret.reveal() == SECOND
    file.unlink()
    clock.pass_by()
    assert secret.reveal() == SECOND

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert all(str(file) in warning for warning in warnings)
    assert not any(part in caplog.text for part in (FIRST, SECOND, "a key", "x-other"))


def test_an_old_file_that_comes_back_ends_the_trouble(
    file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is moved away and back is the same file, and its next absence is said again."""
    secret = FileSecret(file, clock)
    for place in ("away", "key") * 2:
        file = file.rename(file.with_name(place))
        clock.pass_by()
        assert secret.reveal() == FIRST

    assert len(caplog.records) == 2


def test_a_pipe_is_read_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The shell's <(…) gives a key once, and is not waited for again."""
    reading, writing = os.pipe()
    os.write(writing, FIRST.encode())
    os.close(writing)
    secret = FileSecret(Path(f"/dev/fd/{reading}"), clock)
    os.close(reading)
    clock.pass_by()

    assert secret.reveal() == FIRST
    assert caplog.records == []


@pytest.mark.parametrize(
    ("content", "error"), [(b"", ValueError), (b"a b", ValueError), (b"\xff", UnicodeDecodeError)]
)
def test_the_first_reading_is_strict(file: Path, content: bytes, error: type[Exception]) -> None:
    """A worker does not start without a key."""
    file.write_bytes(content)
    with pytest.raises(error):
        FileSecret(file)
    with pytest.raises(OSError, match="No such file"):
        FileSecret(file.with_name("nowhere"))


def test_secrets_are_hidden_and_compared(file: Path, clock: Clock) -> None:
    """Equal keys are equal wherever they are from, and a changed key does not change the hash."""
    secret = FileSecret(file, clock)
    before = hash(secret)
    assert (secret, before) == (Secret(FIRST), hash(Secret(FIRST)))
    file.write_text(SECOND)
    clock.pass_by()

    assert secret.reveal() == SECOND
    assert (secret, hash(secret)) == (Secret(SECOND), before)
    assert repr(secret) == str(secret) == "Secret(hidden)"
