"""``embedq recall``: what a collection's index finds of the truth, how quickly, and what to set for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TextIO

import click
import msgspec

from embedq.cli.progress import progress
from embedq.producer import Producer
from embedq_worker.cli.json_object import json_object
from embedq_worker.cli.measured import Measured, advice, lines, statements
from embedq_worker.cli.session import open_database
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import get_collection
from embedq_worker.store.indexes.measuring import MOST_EF_SEARCH, Measurement, Truth
from embedq_worker.store.indexes.recall import Figures, Query, percentile, smallest
from embedq_worker.store.search import as_text

_EF_SEARCH = (20, 40, 80, 160, 320, 640, MOST_EF_SEARCH)
"""What is measured unless told otherwise, from ``k`` on: one scan gives no more rows than this."""


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    allowed = click.IntRange(1, MOST_EF_SEARCH)
    return tuple(sorted({allowed(part.strip(), param, ctx) for part in value.split(",")}))


@click.command(epilog="Example: embedq recall docs --target 0.98 --texts questions.txt")
@click.argument("collection")
@click.option(
    "-k", type=click.IntRange(1, MOST_EF_SEARCH - 1), default=10, show_default=True, help="Rows of a search."
)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How many searches; with --texts at most so many.",
)
@click.option(
    "--ef-search",
    "ef_searches",
    metavar="N,…",
    callback=_numbers,
    help="Values of hnsw.ef_search to measure. Default: " + ", ".join(map(str, _EF_SEARCH)) + ", from -k on.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="The mean recall that is wanted, for the recommendation.",
)
@click.option(
    "--filter",
    "filter_",
    metavar="JSON",
    callback=json_object,
    help="Only rows whose metadata contain this.",
)
@click.option(
    "--texts",
    type=click.File("r", encoding="utf-8"),
    help="Questions, one a line, embedded by a running worker. Default: stored rows are the queries.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="For the exact searches; when they are over, fewer queries are compared.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one object.")
def recall(
    collection: str,
    k: int,
    queries: int,
    ef_searches: tuple[int, ...] | None,
    target: float,
    filter_: str | None,
    texts: TextIO | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Compare the index of COLLECTION with exact search, and recommend an hnsw.ef_search.

    Recall is the share of the k nearest rows that the index finds. Nothing is written. A stored row is an
    easier query than a question of somebody's: --texts measures with real ones.
    """
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        found = get_collection(connection, collection)
        work = Measurement(connection, found, k, filter_)
        asked = None if texts is None else _embedded(found, texts, queries, settings)
        with work.snapshot():
            truths = _search_exactly(work, asked or work.draw(queries), seconds)
            chosen = work.chosen(truths[0])
            figures = _search_by_index(work, truths, ef_searches or _from(k))
        best = smallest(figures, target)
        measured = Measured(
            collection=found.name,
            k=k,
            queries=len(truths),
            source="rows" if texts is None else "texts",
            filter=filter_,
            exact_p50=percentile((truth.milliseconds for truth in truths), 0.5),
            chosen=chosen,
            present=work.present,
            figures=figures,
            target=target,
            recommended=best.ef_search if best else None,
            statements=statements(connection.info.dbname, connection.info.user, best.ef_search)
            if best
            else [],
            advice=advice(found, figures, target, chosen=chosen, filtered=filter_ is not None),
        )
    click.echo(msgspec.json.encode(measured).decode() if as_json else "\n".join(lines(measured)))


def _search_exactly(work: Measurement, asked: Sequence[Query], seconds: float) -> list[Truth]:
    with progress("search exactly", len(asked)) as advance:
        return work.search_exactly(asked, seconds, advance)


def _search_by_index(work: Measurement, truths: Sequence[Truth], values: Sequence[int]) -> list[Figures]:
    with progress("search by the index", len(values)) as advance:
        return work.search_by_index(truths, values, advance)


def _from(k: int) -> list[int]:
    return [each for each in _EF_SEARCH if each >= k]


def _embedded(collection: Collection, texts: TextIO, most: int, settings: Settings) -> list[Query]:
    """The vectors of the first questions of a file, by a running worker."""
    questions = list(islice((line.strip() for line in texts if line.strip()), most))
    if not questions:
        raise click.BadParameter("has no question; give one a line", param_hint="--texts")
    with (
        Producer(settings.broker_url, key_prefix=settings.key_prefix) as producer,
        progress("embed the questions", len(questions)) as advance,
    ):
        queries = []
        for number, question in enumerate(questions, 1):
            queries.append(Query(vector=as_text(producer.embed_query(collection.name, question))))
            advance(number)
    return queries
