"""What a collection's move to another model needs, held before it is begun or switched."""

from __future__ import annotations

from typing import Literal

from psycopg import sql

from embedq_sql import statement, template
from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection, VectorType
from embedq_worker.store.postgres.connections import Connection, store_errors

State = Literal["next", "previous"]


def check_start(
    connection: Connection, collection: Collection, model: Model, dimensions: int, vector_type: VectorType
) -> None:
    """Raise ``CollectionConflict`` where a collection cannot move to a model."""
    name = collection.name
    if not collection.is_managed:
        raise CollectionConflict(
            f"collection {name!r} cannot be migrated: its table is your own, and its texts are not embedq's "
            "to read; create a second collection with the new model on another column of the table, enqueue "
            "the texts to it, let your queries use it, and drop this one"
        )
    if collection.on_too_long == "truncate":
        raise CollectionConflict(
            f"collection {name!r} cannot be migrated: its texts are cut at what {collection.model} takes; "
            "create a second collection with the new model, enqueue the texts to it, and drop this one"
        )
    if collection.shadow is not None:
        raise CollectionConflict(
            f"collection {name!r} was not moved: {in_words(collection)}; end that first (`embedq collection "
            f"migrate {name} --{'abandon' if collection.shadow.state == 'next' else 'finish'}`)"
        )
    same = (collection.model, collection.dimensions, collection.vector_type)
    if same == (model.id, dimensions, vector_type):
        raise CollectionConflict(
            f"collection {name!r} has the vectors of {model.id}, {vector_type}({dimensions}), already; "
            "choose another model, size or type"
        )
    _check_texts(connection, collection, model)


def in_words(collection: Collection) -> str:
    """How far a collection's move is."""
    shadow = collection.shadow
    if shadow is None:
        return "it has one model"
    if shadow.state == "next":
        return f"it moves to {shadow.model}, {shadow.vector_type}({shadow.dimensions})"
    return f"it has moved to {collection.model} and still keeps the vectors of {shadow.model}"


def check_state(collection: Collection, state: State) -> None:
    """Raise ``CollectionConflict`` unless the shadow is the model to come, or the one that was."""
    if collection.shadow is None or collection.shadow.state != state:
        wanted = "a model to switch to" if state == "next" else "a previous model"
        raise CollectionConflict(
            f"collection {collection.name!r} has not {wanted}: {in_words(collection)}; "
            f"see `embedq collection migrate {collection.name} --status`"
        )


def _check_texts(connection: Connection, collection: Collection, model: Model) -> None:
    """Raise ``CollectionConflict`` where the model does not take the texts as they are stored."""
    tokens = collection.chunk_tokens
    if tokens is not None and tokens > model.max_tokens:
        raise CollectionConflict(
            f"collection {collection.name!r} cannot move to {model.id}: its chunks have up to {tokens:,} "
            f"tokens, the model takes {model.max_tokens:,}; create a collection with shorter chunks"
        )
    most = model.max_chars_alone
    with store_errors(f"the texts of collection {collection.name!r} were not measured"):
        composed = sql.SQL(template("measure_texts")).format(table=collection.table)
        _, _, longest = connection.execute(composed).fetchone() or (0, 0, 0)
    if most is not None and longest > most:
        raise CollectionConflict(
            f"collection {collection.name!r} cannot move to {model.id}: its longest text has {longest:,} "
            f"characters, the model takes {most:,}; shorten or delete such texts, or create a collection "
            "that chunks them"
        )


def check_built(connection: Connection, collection: Collection) -> None:
    """Raise ``CollectionConflict`` where something was built on the column of vectors: a view, a function, a
    generated column, a policy and so on.

    They follow a column, not its name, and would go on reading the old vectors.
    """
    named = {
        "table": collection.table.as_string(connection),
        "column": collection.vector_column,
        "proof": collection.proof_name,
    }
    with store_errors(f"collection {collection.name!r} was not switched"):
        built = [str(row[0]) for row in connection.execute(statement("built_on_column"), named)]
    if built:
        raise CollectionConflict(
            f"collection {collection.name!r} was not switched: {', '.join(sorted(built))} would go on "
            f"reading the old vectors; drop what was built on column {collection.vector_column}, switch, and "
            "make it anew"
        )
