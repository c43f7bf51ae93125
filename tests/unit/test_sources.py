"""What is read of files and directories, whole and from the middle."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedq.cli.sources import directory
from embedq.cli.sources.checkpoint import Checkpoint
from embedq.cli.sources.mapping import Mapping
from embedq.cli.sources.opening import open_source
from embedq.cli.sources.options import Asked
from embedq.contract import check_item
from embedq.errors import EmbedqError, InvalidItem
from embedq.items import read_item

SECRET = "what the customer wrote"
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
Write = Callable[[Path, list[dict[str, Any]]], None]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "lang"])
        writer.writeheader()
        writer.writerows(rows)


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_zipped(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as CSV, compressed."""
    write_csv(path, rows)
    path.write_bytes(gzip.compress(path.read_bytes()))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as Parquet, in row groups of three."""
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "lang")])
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=3)


FORMATS: dict[str, Write] = {
    "rows.csv": write_csv,
    "rows.csv.gz": write_zipped,
    "rows.jsonl": write_json_lines,
    "rows.parquet": write_parquet,
}


def asked(path: Path, **options: Any) -> Asked:
    """What the command line gives for a file."""
    return Asked(path=str(path), **options)


def read(asked: Asked) -> list[dict[str, Any]]:
    """Every good item."""
    with open_source(asked) as source:
        return list(source)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=12), cut=st.integers(0, 12))
def test_a_file_is_read_as_it_was_written_from_anywhere(
    name: str, texts: list[str], cut: int, tmp_path: Path
) -> None:
    """In two parts, the second from the position after the first, every row is read once and as it was."""
    rows = [{"id": str(number), "text": text, "lang": "en"} for number, text in enumerate(texts)]
    FORMATS[name](tmp_path / name, rows)
    file = asked(tmp_path / name, metadata=("lang",))
    with open_source(file) as first:
        start = list(islice(first, cut))
        position = first.position
    with open_source(file) as second:
        if start:
            assert position is not None
            second.go_to(position)
        rest = list(second)

    assert second.bad.count == 0
    assert start + rest == [{"id": r["id"], "text": r["text"], "metadata": {"lang": "en"}} for r in rows]


def test_a_directory_is_read_from_anywhere(tmp_path: Path) -> None:
    """Files in the order of their paths, hidden ones, links and other kinds left out."""
    paths = ["a.md", "a/b.txt", "a/c/d.MD", "a-b/x.txt", "b.text", "z.markdown"]
    for path in [*paths, ".git/x.md", ".hidden.md", "picture.png"]:
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(f"\ufefftext of {path}", "utf-8")
    (tmp_path / "link.md").symlink_to(tmp_path / "a.md")
    (tmp_path / "loop").symlink_to(tmp_path)
    with open_source(asked(tmp_path)) as source:
        assert source.total == len(paths)
        first = list(islice(source, 3))
        position = source.position
    with open_source(asked(tmp_path)) as source:
        source.go_to(position or "")
        rest = list(source)

    assert [item["id"] for item in first + rest] == sorted(paths)
    assert first[0]["text"] == "text of a-b/x.txt"
    assert first[0]["metadata"]["path"] == "a-b/x.txt"
    assert first[0]["metadata"]["size"] == len("\ufefftext of a-b/x.txt".encode())
    assert datetime.fromisoformat(first[0]["metadata"]["modified"]).tzinfo is not None


def test_a_directory_knows_its_state(tmp_path: Path) -> None:
    """A file that changed, came or went makes it another one; reading it does not."""
    (tmp_path / "a.md").write_text("a")
    states = []
    for change in (
        lambda: None,
        lambda: (tmp_path / "a.md").write_text("ab"),
        lambda: (tmp_path / "b.md").touch(),
    ):
        change()
        with open_source(asked(tmp_path)) as source:
            states.append(source.state())
            list(source)
            assert source.state() == states[-1]
    assert len({str(state) for state in states}) == 3


def test_a_file_that_vanishes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its name and its state: the others are read."""
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(name)
    walk = directory._walk

    def walk_and_remove(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        for path, entry in walk(folder, prefix):
            (tmp_path / "a.md").unlink(missing_ok=True)
            yield path, entry

    monkeypatch.setattr(directory, "_walk", walk_and_remove)
    assert [item["id"] for item in read(asked(tmp_path))] == ["b.md"]


def test_two_loads_of_one_source_share_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that writes while another does leaves it whole."""
    write_csv(tmp_path / "rows.csv", [])
    with open_source(asked(tmp_path / "rows.csv")) as source:
        first, second = (
            Checkpoint("docs", "redis://localhost", source, tmp_path / "state" / "file") for _ in range(2)
        )

        def write_meanwhile(_: int) -> None:
            monkeypatch.undo()
            second.write([1, 1], 1, 0)

        monkeypatch.setattr(os, "fsync", write_meanwhile)
        first.write([2, 2], 2, 0)
        assert first.read().position == [2, 2]
        (tmp_path / "state" / "file").write_bytes(b"{")
        with pytest.raises(EmbedqError, match="from its beginning, without --resume"):
            first.read()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["file"]


def test_bad_rows_are_named_by_their_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by the line where it begins and the rule that it breaks, never by its text; good ones are read."""
    file = tmp_path / "rows.csv"
    file.write_bytes(
        b"\xef\xbb\xbfid,text\r\n"
        b'1,"two\r\nlines"\r\n' + f"2,{SECRET},more\r\n,{SECRET}\r\n".encode()
        + f'4,"{SECRET}"{SECRET}\r\n'.encode() + b"\r\n7,\xff\r\n8,last\r\n" + f'9,"{SECRET}\r\n'.encode()
    )  # fmt: skip
    with open_source(asked(file)) as source:
        items = []
        for item in source:
            try:
                check_item(read_item(item))
            except InvalidItem as error:
                source.reject(error)
            else:
                items.append(item["id"])
    said = capsys.readouterr().err.splitlines()

    assert items == ["1", "8"]
    assert [line.removeprefix(f"{file}:").partition(":")[0] for line in said] == ["4", "5", "6", "8", "10"]
    assert [line.rpartition("(")[2] for line in said] == [
        "field_count)", "id_empty)", "not_csv)", "text_not_unicode)", "not_csv)",
    ]  # fmt: skip
    assert SECRET not in str(said)


def test_a_quote_that_never_closes_ends_the_reading(tmp_path: Path) -> None:
    """Beyond 8 MiB it is no longer known what is a row: the error says where it began."""
    file = tmp_path / "rows.csv"
    file.write_bytes(b'id,text\n1,a\n2,"' + (b"b," * 1_000 + b"\n") * 5_000)

    with pytest.raises(EmbedqError, match=r"rows\.csv:3: a field is longer"):
        read(asked(file))


def test_a_damaged_file_says_where_it_breaks_off(tmp_path: Path) -> None:
    """A cut gzip file is an error after its last whole line."""
    file = tmp_path / "rows.csv.gz"
    write_zipped(file, [{"id": str(number), "text": str(hash(str(number)))} for number in range(1_000)])
    file.write_bytes(file.read_bytes()[:-2_000])

    with pytest.raises(EmbedqError, match=r"after line \d+: it cannot be read: it is cut or damaged"):
        read(asked(file))


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("a.csv", "id,body\n1,a\n", {}, "no column 'text'; its columns: id, body"),
        ("a.csv", "id,text,text\n1,a,b\n", {}, "more than one column 'text'"),
        ("a.csv", "", {}, "its columns: none"),
        ("a.csv", 'id,"text\n', {}, "the header cannot be read"),
        ("a.parquet", "text", {}, "cannot be read as Parquet"),
        ("a.tsv", "id\ttext\n", {"version": "at"}, "no column 'at'"),
    ],
)
def test_a_source_without_its_columns_is_refused(
    tmp_path: Path, name: str, content: str, options: dict[str, Any], said: str
) -> None:
    """Before anything is read, with the columns that there are."""
    (tmp_path / name).write_text(content)
    with pytest.raises(click.UsageError) as raised:
        read(asked(tmp_path / name, **options))
    assert said in raised.value.message


def test_parquet_has_types(tmp_path: Path) -> None:
    """Numbers, times and nested values become what an item holds; other columns are not read."""
    table = pa.table(
        {
            "key": pa.array([7, None], pa.int64()),
            "title": ["t", "t"],
            "body": [None, "b"],
            "at": pa.array([1_700_000_000_123_456_789] * 2, pa.timestamp("ns", "UTC")),
            "price": pa.array([Decimal("1.50")] * 2),
            "tags": [["a", "b"]] * 2,
            "unread": [b"\xff"] * 2,
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    options = {"id": "key", "text": ("title", "body"), "version": "at", "metadata": ("price", "tags")}
    with open_source(asked(tmp_path / "rows.parquet", **options)) as source:
        items = list(source)

    metadata = {"price": 1.5, "tags": ["a", "b"]}
    assert items == [{"id": "7", "text": "t", "version": 1_700_000_000_123_456, "metadata": metadata}]
    assert source.bad.count == 1


def test_parquet_has_values_that_python_has_not(tmp_path: Path) -> None:
    """Nanoseconds are cut wherever they are; a row with any other such value is bad, and no other row."""
    times = pa.timestamp("ns")
    nested = pa.struct([("at", times), ("all", pa.list_(times))])
    broken = pa.array([b"a", SECRET.encode() + b"\xff", b"c"]).view(pa.string())
    columns = {
        "id": ["1", "2", "3"],
        "text": broken,
        "nested": pa.array([{"at": 1_001, "all": [2_002]}] * 3, nested),
        "at": pa.array([1_001] * 3, pa.time64("ns")),
        "far": pa.array([0, 0, 1 << 60], pa.timestamp("us")),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with open_source(asked(tmp_path / "rows.parquet", metadata=("nested", "at", "far"))) as source:
        items = list(source)

    moment = "1970-01-01T00:00:00"
    nested_json = {"at": f"{moment}.000001", "all": [f"{moment}.000002"]}
    metadata = {"nested": nested_json, "at": "00:00:00.000001", "far": moment}
    assert items == [{"id": "1", "text": "a", "metadata": metadata}]
    assert source.bad.count == 2


@given(
    st.dictionaries(
        st.sampled_from(["id", "text", "title", "version", "metadata", "more"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.binary(max_size=3), st.decimals(),
            st.dates(), st.datetimes(), st.uuids(), st.lists(st.integers(), max_size=2),
            st.dictionaries(TEXTS, st.decimals(allow_nan=False), max_size=2),
        ),
    ),
    st.sampled_from([(), ("more",), ("title", "metadata")]),
)  # fmt: skip
def test_any_row_is_an_item_or_breaks_a_rule(row: dict[str, Any], metadata: tuple[str, ...]) -> None:
    """Whatever columns hold: an item that the contract takes, or the name of a rule."""
    mapping = Mapping(text=("text", "title"), metadata=metadata)
    try:
        item = read_item(mapping.item(row))
        check_item(item)
    except InvalidItem as error:
        assert error.rule
    else:
        assert item.id == str(row["id"]) or isinstance(row["id"], Decimal)
        assert item.text
        assert json.loads(json.dumps(item.metadata)) == item.metadata


@pytest.mark.parametrize("columns", [(), ("metadata",)])
def test_metadata_that_is_nested_without_end(columns: tuple[str, ...]) -> None:
    """It breaks a rule, however deep it is."""
    metadata = "[" * 900 + "]" * 900
    row = {"id": "1", "text": "t", "metadata": {"deep": json.loads(metadata)}}

    with pytest.raises(InvalidItem, match="metadata_too_deep"):
        check_item(read_item(Mapping(metadata=columns).item(row)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("0042", 42),
        (Decimal("5.0"), 5),
        (datetime.fromisoformat("1970-01-01T00:00:01.000005"), 1_000_005),
        (datetime(2255, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 8_993_721_600_000_001),
        ("", None),
    ],
)
def test_versions(value: object, expected: int | None) -> None:
    """Whole numbers, their digits, and times to the microsecond."""
    item = Mapping().item({"id": "1", "text": "t", "version": value})
    assert item.get("version") == expected


@pytest.mark.parametrize(
    "value", [1.5, "1.5", "-1", "9" * 5_000, True, date(2026, 1, 1), Decimal("0.5"), b"7"]
)
def test_what_is_no_version(value: object) -> None:
    """It is named as such."""
    with pytest.raises(InvalidItem, match="version_type"):
        Mapping().item({"id": "1", "text": "t", "version": value})


def test_metadata_from_one_column_or_several() -> None:
    """The object in ``metadata``, as JSON text too; or the named columns, without those that are null."""
    row = {"id": UUID(int=1), "text": "t", "metadata": '{"a": 1}', "b": None, "c": Decimal("2")}

    assert Mapping().item(row)["metadata"] == {"a": 1}
    assert Mapping(metadata=("b", "c")).item(row)["metadata"] == {"c": 2}
    assert Mapping().item(row)["id"] == "00000000-0000-0000-0000-000000000001"
