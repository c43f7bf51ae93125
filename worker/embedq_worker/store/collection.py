"""A collection: a named table with a vector column, its model and dimensions."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec
from psycopg import sql
from psycopg.rows import kwargs_row

from embedq.contract import Versions

VectorType = Literal["vector", "halfvec"]
Quantization = Literal["none", "halfvec", "binary"]
OnTooLong = Literal["error", "truncate", "chunk"]


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """The other model of a collection that moves from one to another; ``embedq.shadow`` in ``schema.sql``."""

    generation: int
    model: str
    dimensions: int
    vector_type: VectorType
    column_name: str
    state: Literal["next", "previous"]


class Layout(NamedTuple):
    """Whose vectors are in which columns of a collection's table: this pair says it, and is never given
    twice."""

    generation: int
    shadow: int | None
    """The shadow's generation."""


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """Of the registry; the comments of ``embedq.collection`` in ``schema.sql`` say what each means."""

    id: int
    name: str
    table_schema: str
    table_name: str
    model: str
    dimensions: int
    vector_type: VectorType
    versions: Versions
    generation: int = 1
    is_managed: bool = True
    key_column: str = "id"
    key_type: str = "text"
    vector_column: str = "embedding"
    content_column: str | None = "content"
    metadata_column: str | None = "metadata"
    text_search: str = "simple"
    quantization: Quantization = "none"
    on_too_long: OnTooLong = "error"
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None
    shadow: Shadow | None = None

    @property
    def is_shadow(self) -> bool:
        """Whether this is ``as_shadow`` of a collection: functions are never made from it."""
        return False

    @property
    def layout(self) -> Layout:
        """Whose vectors are in which columns."""
        return Layout(self.generation, self.shadow.generation if self.shadow else None)

    def as_shadow(self) -> Collection:
        """The collection as its shadow's model sees it: for what is done to one column of vectors. It must
        have a shadow."""
        assert self.shadow is not None
        its_own = {
            "model": self.shadow.model,
            "dimensions": self.shadow.dimensions,
            "vector_type": self.shadow.vector_type,
            "generation": self.shadow.generation,
            "vector_column": self.shadow.column_name,
            "shadow": None,
        }
        return _AsShadow(**msgspec.structs.asdict(self) | its_own)

    @property
    def table(self) -> sql.Identifier:
        """The table's qualified name."""
        return sql.Identifier(self.table_schema, self.table_name)

    @property
    def place(self) -> str:
        """The table's name for people, with its schema, and with the column where the table is somebody's."""
        table = f"{self.table_schema}.{self.table_name}"
        return table if self.is_managed else f"{table}.{self.vector_column}"

    @property
    def index_name(self) -> str:
        """The plain name of the HNSW index; with the longest name of a collection still below Postgres' 63
        bytes."""
        return f"{self.name}_embedding_idx"

    @property
    def new_index_name(self) -> str:
        """What the HNSW index is called while a rebuild makes it."""
        return f"{self.name}_embedding_new"

    @property
    def old_index_name(self) -> str:
        """What the HNSW index is called once a rebuild has replaced it, until it is dropped."""
        return f"{self.name}_embedding_old"

    @property
    def proof_name(self) -> str:
        """What the constraint is called that proves, as a move ends, that no row lacks its vector."""
        return f"{self.name}_has_vector"

    @property
    def full_text_index_name(self) -> str:
        """The plain name of the GIN index for full text search."""
        return f"{self.name}_content_idx"


class _AsShadow(Collection, frozen=True, kw_only=True):
    @property
    def is_shadow(self) -> bool:
        return True

    @property
    def index_name(self) -> str:
        return f"{self.name}_shadow_idx"


def _read(**columns: Any) -> Collection:
    return msgspec.convert(columns, Collection)


collection_row = kwargs_row(_read)
"""Row factory of the statements ``collection`` and ``collections``."""
