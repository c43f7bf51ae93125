"""Ids as keys of somebody's own table: those that a column holds just as they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.store.own_table.key import is_key

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


@pytest.mark.parametrize(
    ("item_id", "key_type", "expected"),
    [
        ("anything at all", "text", True),
        ("abc", "character varying", True),
        ("abcd", "character varying(4)", True),
        ("abcde", "character varying(4)", False),
        ("abc  ", "character varying(4)", False),
        ("0", "integer", True),
        ("-1", "integer", True),
        ("2147483647", "integer", True),
        ("2147483648", "integer", False),
        ("-2147483648", "integer", True),
        ("9223372036854775807", "bigint", True),
        ("9223372036854775808", "bigint", False),
        ("-9223372036854775809", "bigint", False),
        ("007", "bigint", False),
        ("-0", "bigint", False),
        ("+7", "bigint", False),
        (" 7", "bigint", False),
        ("7\n", "bigint", False),
        ("1e3", "bigint", False),
        ("\u0667", "bigint", False),
        ("", "bigint", False),
        ("9" * 5000, "bigint", False),
        (UUID, "uuid", True),
        (UUID.upper(), "uuid", False),
        (f"{{{UUID}}}", "uuid", False),
        (UUID.replace("-", ""), "uuid", False),
        (UUID + "\n", "uuid", False),
    ],
)
def test_an_id_is_a_key_as_postgres_writes_it(item_id: str, key_type: str, expected: bool) -> None:
    """And in no other form: two forms of one key would be two ids of one row."""
    assert is_key(item_id, key_type) is expected


@given(st.integers(-(2**70), 2**70), st.uuids())
def test_every_value_of_a_type_is_one(number: int, uuid: object) -> None:
    """As far as the type goes."""
    assert is_key(str(number), "bigint") is (-(2**63) <= number < 2**63)
    assert is_key(str(number), "integer") is (-(2**31) <= number < 2**31)
    assert is_key(str(uuid), "uuid")
