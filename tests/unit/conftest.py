"""What the unit tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.dispatching import Bed, running


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """A dispatcher that runs, and does not wait for company."""
    async with running(Bed()) as bed:
        yield bed
