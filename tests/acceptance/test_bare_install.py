"""What other services install: the wheel without extras, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bare import bare_environment, run

PROGRAM = """
import importlib.util, sys
import embedq
assert not {"celery", "redis"} & set(sys.modules), "import embedq must be quick"
theirs = ("httpx", "psycopg", "numpy", "rich", "aiohttp")
present = [name for name in theirs if importlib.util.find_spec(name)]
assert not present, f"a producer does not need {present}"
try:
    with embedq.Producer("redis://127.0.0.1:1/0") as producer:
        producer.enqueue("docs", id="42", text="text")
except embedq.BrokerUnavailable as error:
    print("unavailable:", error)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of an environment with nothing but the wheel and what it requires."""
    return bare_environment(tmp_path_factory.mktemp("bare"))


@pytest.mark.timeout(300)
def test_the_producer_works_alone(bare: Path) -> None:
    """It imports quickly, brings none of the worker's packages, and gets as far as its missing broker."""
    assert run(bare / "python", "-I", "-c", PROGRAM).startswith("unavailable: Redis at redis://127.0.0.1:1")


@pytest.mark.timeout(300)
def test_the_command_works_alone(bare: Path) -> None:
    """``embedq`` lists its commands; one of the worker's names the extra that it needs."""
    assert "enqueue" in run(bare / "embedq", "--help")
    assert "JSON Lines" in run(bare / "embedq", "enqueue", "--help")
