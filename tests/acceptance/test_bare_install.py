"""What other services install: the wheel without extras, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

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


def run(*command: str | Path) -> str:
    """The output of a command that must succeed."""
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of an environment with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("embedq-*.whl")
    venv.create(folder / "env", with_pip=True)
    binaries = folder / "env" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    return binaries


@pytest.mark.timeout(300)
def test_the_producer_works_alone(bare: Path) -> None:
    """It imports quickly, brings none of the worker's packages, and gets as far as its missing broker."""
    assert run(bare / "python", "-I", "-c", PROGRAM).startswith("unavailable: Redis at redis://127.0.0.1:1")


@pytest.mark.timeout(300)
def test_the_command_works_alone(bare: Path) -> None:
    """``embedq`` lists its commands; one of the worker's names the extra that it needs."""
    assert "enqueue" in run(bare / "embedq", "--help")
    assert "JSON Lines" in run(bare / "embedq", "enqueue", "--help")
