"""What a build is given: memory by the graph's size, workers that come, a word when it is too little."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from embedq.cli import main
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.store.collection import Quantization
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes import session as index_session
from embedq_worker.store.indexes.building import build_index, drop_index
from embedq_worker.store.indexes.session import BuildOptions, Means, means_of, prepare
from embedq_worker.store.indexes.size import graph_bytes
from embedq_worker.store.postgres.connections import Connection
from tests.support.indexed import fill

MODEL = Model(id="small", dimensions=16, allowed_dimensions=DimensionRange(min=1, max=2_000))


def setting(connection: Connection, name: str) -> str:
    """A setting of the session as it is shown."""
    (value,) = connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",)
    return str(value)


def test_session_is_given_memory(connection: Connection) -> None:
    """The memory asked for is set before the build; without a wish it is never less than the server's own."""
    docs = create_collection(connection, name="docs", model=MODEL)
    before = setting(connection, "maintenance_work_mem")

    build_index(connection, docs)
    assert setting(connection, "maintenance_work_mem") == before

    drop_index(connection, docs)
    build_index(connection, docs, BuildOptions(memory=96 << 20))
    assert setting(connection, "maintenance_work_mem") == "96MB"


def test_memory_follows_the_graph(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as the graph needs and a tenth more, up to a quarter of effective_cache_size, or 1 GiB."""
    docs = create_collection(connection, name="docs", model=MODEL, dimensions=1_536)
    connection.execute("SET maintenance_work_mem = '1MB'")
    monkeypatch.setattr(index_session, "count_rows", lambda *_: 100_000)
    options = BuildOptions(workers=1)

    plain = means_of(connection, docs, "none", options)
    assert plain.memory == plain.graph + plain.graph // 10
    assert plain.fits
    assert means_of(connection, docs, "binary", options).memory < plain.memory // 5

    monkeypatch.setattr(index_session, "count_rows", lambda *_: 1_000_000)
    assert means_of(connection, docs, "none", options).memory == 1 << 30
    assert not means_of(connection, docs, "none", options).fits
    connection.execute("SET effective_cache_size = '32GB'")
    assert means_of(connection, docs, "none", options).fits


def test_workers(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other cores of this machine for a table that is worth it, as many as were asked for else."""
    docs = create_collection(connection, name="docs", model=MODEL)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert means_of(connection, docs, "none", BuildOptions()).workers == 0
    assert means_of(connection, docs, "none", BuildOptions(workers=2)).workers == 2

    monkeypatch.setattr(index_session, "count_rows", lambda *_: 10_000)
    means = means_of(connection, docs, "none", BuildOptions())
    assert means.workers == 3
    assert means.memory >= 4 * 32 << 20

    prepare(connection, means)
    assert setting(connection, "max_parallel_maintenance_workers") == "3"
    assert setting(connection, "min_parallel_table_scan_size") == "0"


def test_workers_come_for_few_pages(connection: Connection) -> None:
    """A table whose vectors are stored apart has few pages of its own; the workers come all the same."""
    docs = create_collection(connection, name="docs", model=MODEL)
    fill(connection, docs, 2_000)
    said = []
    connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
    connection.execute("SET client_min_messages = debug1")

    build_index(connection, docs, BuildOptions(workers=1, ef_construction=32))

    assert any("using 1 parallel workers" in each or "1 parallel worker" in each for each in said if each), (
        said
    )


@pytest.mark.parametrize(
    ("dimensions", "quantization", "m"), [(64, "none", 16), (64, "binary", 16), (256, "halfvec", 32)]
)
def test_graph_is_as_large_as_estimated(
    connection: Connection, dimensions: int, quantization: Quantization, m: int
) -> None:
    """Where pgvector says that the graph no longer fits, the estimate says so too, to 5 %."""
    docs = create_collection(
        connection, name="docs", model=MODEL, dimensions=dimensions, quantization=quantization
    )
    fill(connection, docs, (1 << 20) // graph_bytes(docs, quantization, 1, m) * 11 // 10)
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))

    build_index(connection, docs, BuildOptions(memory=1 << 20, workers=0, m=m, ef_construction=2 * m))

    fitted = [int(found[1]) for each in notices if (found := re.search(r"after (\d+) tuples", each))]
    assert [graph_bytes(docs, quantization, rows, m) for rows in fitted] == [pytest.approx(1 << 20, rel=0.05)]


def test_too_little_memory_is_said(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the build, with what would do."""
    docs = create_collection(connection, name="docs", model=MODEL, dimensions=256)
    fill(connection, docs, 1_000)
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)

    result = CliRunner().invoke(main, ["index", "build", "docs", "--memory", "1", "--m", "4"])

    assert result.exit_code == 0, result.output
    assert "the graph needs about 1 MiB and the build has 1 MiB" in result.stderr
    assert "--memory 2" in result.stderr


def test_means_that_fit() -> None:
    """A graph of just the memory's size stays in it."""
    assert Means(memory=5, graph=5, workers=0).fits
    assert not Means(memory=4, graph=5, workers=0).fits
