"""The demo from start to end: servers, a worker, a corpus, an index, questions, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep
from typing import NamedTuple

import click

from embedq.contract import Item
from embedq.errors import EmbedqError
from embedq.producer import Producer
from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.demo.corpus import read_corpus, standard_library
from embedq_worker.demo.monitor import DemoMonitor, hold, show
from embedq_worker.demo.questions import COLLECTION, QUESTIONS, ask, count_tokens, shown_sql
from embedq_worker.demo.screen import Show, progress, show_answers, show_sql, step
from embedq_worker.demo.stopping import StopSignals
from embedq_worker.demo.worker import DemoWorker
from embedq_worker.embedded.local_api import MODEL
from embedq_worker.embedded.stack import EmbeddedStack
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.dead_letters.listing import count_dead_letters
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.row_counts import count_rows

_LOOK_EVERY = 0.1
"""Seconds between looks at the table."""
_PATIENCE = 60.0
"""Seconds without a new row after which something must be wrong."""


class DemoFailed(EmbedqError):
    """The demo could not go on; the message says why, with the end of a log where one helps."""


class Totals(NamedTuple):
    """What the demo did; ``seconds`` from the first text enqueued to the last row stored."""

    texts: int
    tokens: int
    dead_letters: int
    seconds: float
    cpu_seconds: float | None


class _Demo(NamedTuple):
    """What runs."""

    stack: EmbeddedStack
    worker: DemoWorker
    settings: Settings
    connection: Connection
    collection: Collection
    monitor: DemoMonitor | None


def run_demo(stop: StopSignals, *, with_flower: bool = False) -> Totals:
    """Run it; when it returns or raises, no process and no file is left.

    With Flower it goes on until somebody has looked. Raises ``Stopped`` after a signal, and ``EmbedqError``,
    whose message may have several lines.
    """
    with _started(with_flower=with_flower) as demo, stop.interruptible():
        try:
            totals = _work(demo)
            if demo.monitor is not None:
                hold(stop, demo.monitor)
            return totals
        except EmbedqError:
            _check_running(demo)
            raise


@contextmanager
def _started(*, with_flower: bool) -> Iterator[_Demo]:
    with ExitStack() as cleanup:
        with step("Starting Postgres with pgvector, Valkey and a local embedding model"):
            stack = cleanup.enter_context(EmbeddedStack())
        settings = Settings.from_environment(stack.environment)
        connection = cleanup.enter_context(open_database(settings))
        collection = _create(connection, settings)
        # Events from the first message on: Flower asks for them every few seconds only.
        arguments = ["--events"] if with_flower else []
        worker = cleanup.enter_context(DemoWorker(stack.environment, arguments))
        click.echo("Started a worker: `embedq worker`")
        monitor = cleanup.enter_context(DemoMonitor(stack.environment)) if with_flower else None
        cleanup.callback(click.echo, "\nStopping the worker and the servers, removing their files.")
        yield _Demo(stack, worker, settings, connection, collection, monitor)


def _create(connection: Connection, settings: Settings) -> Collection:
    """What `embedq migrate` and `embedq collection create` do."""
    apply_migrations(connection)
    model = settings.catalogue.usable(MODEL)
    collection = create_collection(connection, name=COLLECTION, model=model)
    with open_broker(settings) as broker:
        publish(connection, broker, settings)
    column = f"{collection.vector_type}({collection.dimensions})"
    click.echo(f"Created collection {collection.name}: model {collection.model}, {column}")
    return collection


def _work(demo: _Demo) -> Totals:
    texts = _read_texts()
    demo.worker.wait()
    if demo.monitor is not None:
        demo.monitor.wait()
        show(demo.monitor)
    with Producer(
        demo.settings.broker_url, key_prefix=demo.settings.key_prefix, source="embedq demo"
    ) as producer:
        totals = _embed(demo, producer, texts)
        with step("Building the vector index"):
            build_index(demo.connection, demo.collection)
        _ask_all(demo, producer)
    return totals


def _read_texts() -> list[Item]:
    folder = standard_library()
    with step("Reading the docstrings of Python's standard library") as notes:
        texts = list(read_corpus(folder))
        notes.append(f"{len(texts):,} texts")
    if not texts:
        raise DemoFailed(
            f"no docstrings were found in {folder}: run the demo with a Python that has its sources"
        )
    return texts


def _embed(demo: _Demo, producer: Producer, texts: Sequence[Item]) -> Totals:
    started, cpu = monotonic(), demo.worker.cpu_seconds()
    with progress(len(texts)) as show:
        producer.enqueue_many(COLLECTION, _counted(texts, show), lane="bulk")
        dead_letters = _wait_for_rows(demo, len(texts), show)
    seconds, cpu_after = monotonic() - started, demo.worker.cpu_seconds()
    return Totals(
        texts=len(texts),
        tokens=count_tokens(demo.connection),
        dead_letters=dead_letters,
        seconds=seconds,
        cpu_seconds=None if cpu is None or cpu_after is None else cpu_after - cpu,
    )


def _counted(texts: Sequence[Item], show: Show) -> Iterator[Item]:
    for number, text in enumerate(texts):
        show(number, 0)
        yield text


def _wait_for_rows(demo: _Demo, total: int, show: Show) -> int:
    """Wait until every text is a row or a dead letter; the number of dead letters."""
    done, changed = 0, monotonic()
    while True:
        rows, dead = _count(demo)
        show(total, rows)
        if rows + dead >= total:
            return dead
        if rows + dead > done:
            done, changed = rows + dead, monotonic()
        _check_running(demo)
        if monotonic() > changed + _PATIENCE:
            raise DemoFailed(f"no text was embedded for {_PATIENCE:.0f} s; {_log(demo)}")
        sleep(_LOOK_EVERY)


def _count(demo: _Demo) -> tuple[int, int]:
    rows = count_rows(demo.connection, demo.collection) or 0
    return rows, count_dead_letters(demo.connection).get(COLLECTION, 0)


def _check_running(demo: _Demo) -> None:
    if ended := demo.stack.ended():
        raise DemoFailed(f"{' and '.join(ended)} ended unexpectedly; run the demo again")
    if not demo.worker.running:
        raise DemoFailed(f"the worker ended unexpectedly; {_log(demo)}")


def _log(demo: _Demo) -> str:
    return f"the end of its log:\n{demo.worker.log() or '(it is empty)'}"


def _ask_all(demo: _Demo, producer: Producer) -> None:
    click.echo("\nThis SQL answers the questions; $1 is a question's vector, from the worker:\n")
    show_sql(shown_sql())
    for question in QUESTIONS:
        started = monotonic()
        answers = ask(producer, demo.connection, question)
        show_answers(question, answers, monotonic() - started)
