"""How far a load is, in a file that is replaced whole: what Redis has confirmed, never more."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import click
import msgspec

from embedq.cli.sources.source import Position, Source
from embedq.errors import EmbedqError


class Reached(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint says of a load of one source into one collection."""

    v: int
    collection: str
    source: dict[str, str]
    """Which source it is."""
    state: dict[str, str | int]
    """Its state when the load began, how its items are made, and where they go."""
    position: Position
    enqueued: int
    bad: int


class Checkpoint:
    """The file of one load, read and written.

    Without a ``file`` it is in ``$XDG_STATE_HOME/embedq`` (``~/.local/state/embedq``), under a name made from
    the collection and the source. Where that cannot be written, the load goes on without and says so.
    """

    def __init__(self, collection: str, broker: str, source: Source, file: Path | None = None) -> None:
        self._collection = collection
        self._source = source.identity()
        self._state = {"broker": broker, **source.state(), **source.shape()}
        self._is_chosen = file is not None
        self._file = file or self._usual_place()

    @property
    def exists(self) -> bool:
        """Whether a load was left, or is under way."""
        # Unlike ``Path.exists`` it takes a folder that this user may not enter for one without it.
        return self._file is not None and os.path.exists(self._file)  # noqa: PTH110

    def read(self) -> Reached:
        """How far the load was. Raises ``EmbedqError`` where none was left, or its source changed."""
        if self._file is None or not self.exists:
            raise EmbedqError(
                f"there is nothing to resume: no checkpoint {self._file}; the load has ended, or was another"
            )
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=Reached)
        except (OSError, msgspec.DecodeError) as error:
            raise EmbedqError(
                f"the checkpoint {self._file} cannot be read ({type(error).__name__}): load the source from "
                "its beginning, without --resume"
            ) from None
        self._compare(found)
        return found

    def write(self, position: Position, enqueued: int, bad: int) -> None:
        """Replace it: after a crash, of the machine too, it is the old one or the new one."""
        if self._file is None:
            return
        reached = Reached(1, self._collection, self._source, self._state, position, enqueued, bad)
        try:
            _replace(self._file, msgspec.json.encode(reached))
        except OSError as error:
            self._go_without(error)

    def remove(self) -> None:
        """The load has ended. One that stays can only have nothing resumed."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()

    def _go_without(self, error: OSError) -> None:
        reason = f"the checkpoint {self._file} cannot be written ({error.strerror})"
        if self._is_chosen:
            raise EmbedqError(f"{reason}: give another file with --checkpoint") from error
        click.echo(f"{reason}: this load cannot be resumed; --checkpoint FILE puts it elsewhere", err=True)
        self._file = None

    def _compare(self, found: Reached) -> None:
        then = {"collection": found.collection, **found.source, **found.state}
        now = {"collection": self._collection, **self._source, **self._state}
        other = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        if other:
            raise EmbedqError(
                f"the load cannot be resumed: since it began its {', '.join(other)} changed, so its position "
                "no longer holds; load it from the beginning, without --resume"
            )

    def _usual_place(self) -> Path | None:
        digest = blake2b(msgspec.json.encode([self._collection, self._source]), digest_size=8).hexdigest()
        try:
            folder = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
        except RuntimeError:  # this user has no home
            return None
        return folder / "embedq" / f"{self._collection}-{digest}.json"


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A name of its own: two loads of one source may be under way.
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
