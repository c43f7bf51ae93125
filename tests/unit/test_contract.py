"""The rules of the contract, each by its name."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.contract import (
    MAX_ID_LENGTH,
    MAX_METADATA_DEPTH,
    MAX_VERSION,
    Item,
    is_collection_name,
    queue_name,
)
from embedq.errors import BrokerUnavailable, EmbedqError, InvalidItem, QueueFull, UnknownCollection
from embedq.items import encode_item, read_item, settle_version

SECRET = "what the customer wrote"


def nested(depth: int) -> dict[str, Any]:
    """Metadata with ``depth`` objects inside the outermost."""
    metadata: dict[str, Any] = {}
    for _ in range(depth):
        metadata = {"in": metadata}
    return metadata


BAD_ITEMS: list[tuple[str, object]] = [
    ("item_type", 42),
    ("item_type", None),
    ("item_type", [SECRET]),
    ("id_missing", {"text": SECRET}),
    ("id_type", {"id": 42, "text": SECRET}),
    ("id_type", {"id": None, "text": SECRET}),
    ("id_type", Item(b"42", SECRET)),  # type: ignore[arg-type] # what an untyped caller gives
    ("id_empty", {"id": "", "text": SECRET}),
    ("id_too_long", {"id": "i" * (MAX_ID_LENGTH + 1), "text": SECRET}),
    ("id_nul", {"id": "4\x002", "text": SECRET}),
    ("id_not_unicode", {"id": "\ud800", "text": SECRET}),
    ("field_unknown", {"id": "42", "text": SECRET, "metdata": {}}),
    ("text_missing", {"id": "42"}),
    ("text_missing", {"id": "42", "text": None}),
    ("text_type", {"id": "42", "text": SECRET.encode()}),
    ("text_type", {"id": "42", "text": 42}),
    ("text_empty", {"id": "42", "text": ""}),
    ("text_empty", {"id": "42", "text": " \n\t"}),
    ("text_nul", {"id": "42", "text": SECRET + "\x00"}),
    ("text_not_unicode", {"id": "42", "text": SECRET + "\udfff"}),
    ("deleted_type", {"id": "42", "deleted": "yes"}),
    ("deleted_with_text", {"id": "42", "text": SECRET, "deleted": True}),
    ("version_type", {"id": "42", "text": SECRET, "version": "7"}),
    ("version_type", {"id": "42", "text": SECRET, "version": True}),
    ("version_type", {"id": "42", "text": SECRET, "version": 7.0}),
    ("version_range", {"id": "42", "text": SECRET, "version": -1}),
    ("version_range", {"id": "42", "text": SECRET, "version": MAX_VERSION + 1}),
    ("metadata_type", {"id": "42", "text": SECRET, "metadata": [SECRET]}),
    ("metadata_not_json", {"id": "42", "text": SECRET, "metadata": {"score": float("nan")}}),
    ("metadata_not_json", {"id": "42", "text": SECRET, "metadata": {"score": [float("inf")]}}),
    ("metadata_not_json", {"id": "42", "text": SECRET, "metadata": {1: SECRET}}),
    ("metadata_not_json", {"id": "42", "text": SECRET, "metadata": {"raw": SECRET.encode()}}),
    ("metadata_nul", {"id": "42", "text": SECRET, "metadata": {"a": [SECRET + "\x00"]}}),
    ("metadata_nul", {"id": "42", "text": SECRET, "metadata": {SECRET + "\x00": 1}}),
    ("metadata_not_unicode", {"id": "42", "text": SECRET, "metadata": {"a": SECRET + "\ud800"}}),
    ("metadata_too_deep", {"id": "42", "text": SECRET, "metadata": nested(MAX_METADATA_DEPTH + 1)}),
    ("metadata_too_deep", {"id": "42", "text": SECRET, "metadata": nested(5_000)}),
]


def prepare(value: object) -> bytes:
    """What the producer makes of a value on a collection whose clock gives version 1."""
    return encode_item(settle_version(read_item(value), "clock", 1))


@pytest.mark.parametrize(
    ("rule", "value"), BAD_ITEMS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_bad_item_names_its_rule_and_never_its_text(rule: str, value: object) -> None:
    """Each wrong item raises ``InvalidItem`` with the rule and without its text and metadata."""
    with pytest.raises(InvalidItem) as refused:
        prepare(value)

    assert refused.value.rule == rule
    assert f"({rule})" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert str(refused.value).encode()


characters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(characters, min_size=1, max_size=MAX_ID_LENGTH),
    st.text(characters, min_size=1).filter(lambda text: not text.isspace()),
    st.none() | st.dictionaries(st.text(characters), json_values, max_size=4),
)
def test_a_good_item_survives_the_way(item_id: str, text: str, metadata: dict[str, Any] | None) -> None:
    """Whatever Unicode and JSON hold arrives unchanged, from an ``Item`` and from a mapping."""
    sent = prepare({"id": item_id, "text": text, "metadata": metadata})

    assert sent == prepare(Item(item_id, text, metadata=metadata))
    assert msgspec.json.decode(sent, type=Item) == Item(item_id, text, 1, metadata)


@given(st.text(max_size=30))
def test_a_text_is_taken_or_named(text: str) -> None:
    """No text ends in anything but UTF-8 JSON or ``InvalidItem``."""
    try:
        sent = prepare({"id": "42", "text": text})
    except InvalidItem as error:
        assert error.rule in {"text_empty", "text_nul"}
    else:
        assert msgspec.json.decode(sent, type=Item).text == text


def test_who_gives_versions_is_the_collections_rule() -> None:
    """The clock's collections refuse the caller's versions, the caller's collections need them."""
    given_item, bare = Item("42", "text", 7), Item("42", "text")

    with pytest.raises(InvalidItem, match="version_given"):
        settle_version(given_item, "clock", 1)
    with pytest.raises(InvalidItem, match="version_missing"):
        settle_version(bare, "given", 1)
    assert settle_version(given_item, "given", 1).version == 7
    assert settle_version(bare, "clock", 1).version == 1
    assert settle_version(given_item, None, 1).version == 7
    assert settle_version(bare, None, 1).version == 1


def test_a_delete_has_an_id_and_a_version() -> None:
    """A delete is an item without text."""
    assert msgspec.json.decode(prepare({"id": "42", "deleted": True})) == {
        "id": "42",
        "version": 1,
        "deleted": True,
    }


@pytest.mark.parametrize(
    ("name", "good"),
    [("docs", True), ("d", True), ("d" + "0" * 47, True), ("d" + "0" * 48, False), ("", False), ("0d", False),
     ("Docs", False), ("docs\n", False), ("do-cs", False), ("docs.bulk", False), ("dócs", False)],
)  # fmt: skip
def test_collection_names(name: str, good: bool) -> None:
    """Names are safe as a table, as a queue and in a URL."""
    assert is_collection_name(name) is good


def test_queue_names() -> None:
    """The lane ``live`` has the plain name."""
    assert [queue_name("docs", lane) for lane in ("query", "live", "bulk")] == [
        "embedq.docs.query",
        "embedq.docs",
        "embedq.docs.bulk",
    ]


@pytest.mark.parametrize(
    "error",
    [
        InvalidItem("42", "text_empty", "it is empty"),
        QueueFull("embedq.docs", 5, 5),
        UnknownCollection("a", ["b"]),
        BrokerUnavailable("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_processes(error: EmbedqError) -> None:
    """Errors keep their message and attributes through pickle, as process pools need it."""
    if not isinstance(error, UnknownCollection):
        error.enqueued = 3  # type: ignore[attr-defined] # on those that count
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 # our own bytes

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_importing_embedq_imports_no_celery() -> None:
    """A service that enqueues rarely does not pay for Celery, kombu or redis when it starts."""
    program = (
        "import sys, embedq; print(sorted({'celery', 'kombu', 'redis', 'click', 'rich'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[]"
