"""Parquet, a batch of rows at a time; needs the extra ``embedq[parquet]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq

from embedq.cli.sources.files import File, unreadable
from embedq.cli.sources.mapping import Mapping
from embedq.cli.sources.source import Position, Source
from embedq.errors import InvalidItem

BATCH_ROWS = 1_000
"""Rows in memory at a time."""
BUFFER_BYTES = 1 << 20
"""Read of a column at a time, so that a row group of any size needs little memory."""


class Parquet(Source):
    """The rows of a file, of which only the mapping's columns are read. A position is a number of rows."""

    def __init__(self, file: File, mapping: Mapping) -> None:
        super().__init__(file.name, mapping)
        if not file.is_regular:
            raise click.UsageError("Parquet is read from its end: give a file, not a pipe")
        self._file = file
        try:
            self._parquet = pq.ParquetFile(file.stream, buffer_size=BUFFER_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise click.UsageError(
                f"{file.name} cannot be read as Parquet ({type(error).__name__})"
            ) from None
        columns = self._parquet.schema_arrow.names
        mapping.check(columns, file.name)
        self._columns = mapping.of(columns)
        self.total = self._parquet.metadata.num_rows
        self._done = 0

    @property
    def place(self) -> str:
        """The number of the row last read, from 1."""
        return str(self._done)

    @property
    def done(self) -> int:
        """Rows."""
        return self._done

    @property
    def position(self) -> Position:
        """The number of rows read."""
        return self._done

    def go_to(self, position: Position) -> None:
        """Go on behind so many rows; row groups before them are not read."""
        assert isinstance(position, int)
        self._done = position

    def identity(self) -> dict[str, str]:
        """The file's."""
        return self._file.identity()

    def state(self) -> dict[str, str | int]:
        """The file's."""
        return self._file.state()

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()
        self._file.close()

    def _rows(self) -> Iterator[dict[str, Any] | InvalidItem]:
        groups, skipped = self._groups()
        for batch in self._batches(groups):
            rows = _values(batch.slice(skipped))
            skipped = max(0, skipped - batch.num_rows)
            for row in rows:
                self._done += 1
                yield row

    def _batches(self, groups: list[int]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=self._columns)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(f"{self.name}, after row {self._done}", type(error).__name__) from None

    def _groups(self) -> tuple[list[int], int]:
        """The row groups that are still to be read, and how many rows of the first one are not."""
        left = self._done
        for group in range(self._parquet.num_row_groups):
            rows = self._parquet.metadata.row_group(group).num_rows
            if left < rows:
                return list(range(group, self._parquet.num_row_groups)), left
            left -= rows
        return [], 0


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | InvalidItem]:
    """The rows in Python's types. Where one cannot be, the halves are tried, so that it alone is bad."""
    try:
        return list(_in_microseconds(batch).to_pylist())
    except (pa.ArrowException, ValueError, OverflowError, KeyError):  # whose messages may quote the value
        if batch.num_rows == 1:
            explanation = "one of its values cannot be read: it is no UTF-8, or a time out of range"
            return [InvalidItem(None, "value_unreadable", explanation)]
        half = batch.num_rows // 2
        return [*_values(batch.slice(0, half)), *_values(batch.slice(half))]


def _in_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Python's times have no nanoseconds: they are cut."""
    fields = [field.with_type(_without_nanoseconds(field.type)) for field in batch.schema]
    return batch.cast(pa.schema(fields), safe=False)


def _without_nanoseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_nanoseconds(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_nanoseconds(kind.value_type)))
    if getattr(kind, "unit", None) != "ns":
        return kind
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us")
