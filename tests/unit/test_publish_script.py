"""The numbers of ``publish.lua``, which stand in Python too."""

from __future__ import annotations

import re

import pytest

from embedq.contract import MAX_WAKE_TOKENS
from embedq.publishing import PUBLISH
from embedq.retries import RETRY_SECONDS, SOCKET_SECONDS


@pytest.fixture
def numbers() -> dict[str, int]:
    """The script's constants."""
    return {name: int(value) for name, value in re.findall(r"local ([A-Z_]+) = (\d+)", PUBLISH.text)}


def test_as_many_tokens_wake_workers(numbers: dict[str, int]) -> None:
    """The list is as short as workers leave it."""
    assert numbers["WAKE_TOKENS"] == MAX_WAKE_TOKENS


def test_a_marker_outlives_the_retries(numbers: dict[str, int]) -> None:
    """An answer is waited for, then it is sent again for some seconds; the last time takes a connection."""
    assert numbers["MARKER_SECONDS"] > SOCKET_SECONDS + RETRY_SECONDS + RETRY_SECONDS
