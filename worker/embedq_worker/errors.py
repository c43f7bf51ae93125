"""The worker's exceptions, one tree below ``embedq.errors.EmbedqError``.

    WorkerError
    ├── CatalogueError
    │   ├── UnknownModel        no model of this name is known
    │   └── WithdrawnModel      the API no longer serves the model
    ├── BadDimensions           the model does not make vectors of this size
    ├── ApiError                a call to the embeddings API gave no vectors
    │   ├── Transient           the same call may work later
    │   │   └── MalformedAnswer a 2xx answer that is not what was asked for
    │   ├── Refused             the service refuses us, whatever the texts
    │   ├── BadInput            the service refuses this text, or this batch of texts
    │   └── NotCalled           no call was made: the model is paused, or nobody waits for it any more
    ├── LimiterAway             Redis does not say whether a call may be made
    ├── NotAJob                 a message that is neither a job nor a query
    ├── NotReplayable           a dead letter that cannot be put back on its queue
    ├── Unhealthy               a worker process says, or shows, that it cannot work
    ├── AllItemsDead            a job of which no item could be embedded
    ├── SourceError             what a collection is made from cannot be read
    └── StoreError              Postgres did not do what was asked
        ├── DatabaseAway        it cannot serve now
        │   ├── DatabaseBusy    other transactions are in the way
        │   │   └── RowsLocked  of these rows
        │   └── RightsMissing   the worker's role may not do it
        ├── CollectionGone      the collection's table was dropped
        │   └── ColumnGone      a column of somebody's own table was dropped or renamed
        ├── CollectionMoved     its columns hold other models' vectors than was known
        ├── StaleVector         the vector of a query is not of the collection's model any more
        ├── RowsUnfilled        rows that lack the vector of the model to switch to
        ├── RowRefused          it refuses a row of the batch
        ├── NotMigrated         the database has no embedq schema, or an older one
        ├── CollectionConflict  a collection cannot be made as it is asked for
        ├── CollectionBusy      a collection cannot be changed now
        ├── VectorTooLong       no indexable column type holds vectors of so many dimensions
        ├── BadChunks           texts cannot be chunked so
        ├── RecallUnknown       the recall of an index cannot be measured
        └── DriftUnknown        whether a model drifts cannot be said

An ``ApiError`` carries the status, a short code and a parameter's name, never the provider's prose, which may
quote the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from embedq.errors import EmbedqError
from embedq_worker.allowance import Allowance


class WorkerError(EmbedqError):
    """Base of what the worker raises on purpose."""


class CatalogueError(WorkerError):
    """The catalogue has no usable model of this name."""


class UnknownModel(CatalogueError):
    """No model of this name is known; ``close`` has names that look like it."""

    def __init__(self, name: str, close: Iterable[str] = ()) -> None:
        self.name = name
        self.close = tuple(close)
        meant = f" Did you mean {' or '.join(repr(other) for other in self.close)}?" if self.close else ""
        super().__init__(
            f'model {name!r} is not in the catalogue.{meant} To add it, put a table [models."{name}"] with '
            "its facts (at least dimensions) into the file that EMBEDQ_CONFIG names."
        )

    def __reduce__(self) -> tuple[type[UnknownModel], tuple[str, tuple[str, ...]]]:
        return type(self), (self.name, self.close)


class WithdrawnModel(CatalogueError):
    """The API no longer serves the model; ``reason`` says since when and what to use instead."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(
            f"model {name!r} cannot be called: {reason} To use another server that still has it, set "
            f'base_url in [models."{name}"] of the file that EMBEDQ_CONFIG names.'
        )

    def __reduce__(self) -> tuple[type[WithdrawnModel], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class BadDimensions(WorkerError):
    """The model does not make vectors of ``dimensions``; ``allowed`` says which it makes."""

    def __init__(self, model: str, dimensions: int, allowed: str) -> None:
        self.model = model
        self.dimensions = dimensions
        self.allowed = allowed
        super().__init__(
            f"model {model!r} does not make vectors of {dimensions} dimensions; choose {allowed}."
        )

    def __reduce__(self) -> tuple[type[BadDimensions], tuple[str, int, str]]:
        return type(self), (self.model, self.dimensions, self.allowed)


class ApiError(WorkerError):
    """A call to the embeddings API gave no vectors.

    ``status`` is the HTTP status, or None where no complete answer came. ``code`` is a short name: the
    service's own where it gave one, else embedq's, or None. ``parameter`` names the request's field that the
    service objects to. ``retry_after`` is the wait that the service asks for, in seconds. ``is_too_long``:
    whether the service says that a text is longer than the model takes. ``model``, and the ``allowance``
    where the reply had one, are set by the client.
    """

    happened: ClassVar[str] = "the call to the embeddings API failed"

    def __init__(
        self,
        status: int | None = None,
        code: str | None = None,
        parameter: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, code, parameter, retry_after)
        self.status = status
        self.code = code
        self.parameter = parameter
        self.retry_after = retry_after
        self.is_too_long = False
        self.model: str | None = None
        self.allowance: Allowance | None = None

    def __str__(self) -> str:
        about = f" for model {self.model!r}" if self.model else ""
        return f"{self.happened}{about} ({self._details()}); {self.advice()}"

    def advice(self) -> str:
        """What a person can do about it."""
        return "look at the service's status"

    def _details(self) -> str:
        facts = {"status": self.status, "code": self.code, "parameter": self.parameter}
        said = [f"{name} {value}" for name, value in facts.items() if value is not None]
        if self.retry_after is not None:
            said.append(f"retry after {self.retry_after:g} s")
        return ", ".join(said) or "no details"


class Transient(ApiError):
    """The same call may work later: overload, an upstream failure, a broken connection, a time-out.

    ``status`` tells 429 and 503 from others. ``code`` is "connect_timeout" where the service was not reached
    in time, and "timeout" where it was too slow to answer, or to finish.
    """

    happened = "the embeddings API did not answer"

    def advice(self) -> str:
        """What a person can do about it."""
        return "it is tried again; if it lasts, check that the service is up and reachable"


class Refused(ApiError):
    """The service refuses us, whatever the texts: key, credits, model, address or settings."""

    happened = "the embeddings API refuses us"

    def advice(self) -> str:
        """What a person can do about it."""
        if self.status is not None and 300 <= self.status < 400:
            return "redirects are not followed; set base_url to the service's own address"
        return _REFUSED_ADVICE.get(self.status or 0, _ADVICE_WHEN_REFUSED)


_ADVICE_WHEN_REFUSED = "check base_url, the model's name and settings, the key and the account"
_REFUSED_ADVICE = {
    401: "check EMBEDQ_API_KEY, or the model's api_key_file",
    402: "check the account's credits",
    403: "check the account's credits, and what the key may spend and call",
    404: "check base_url, and whether the service still offers the model",
    429: "the account's quota is used up; check its plan and credits",
}


class BadInput(ApiError):
    """The service refuses this text, or this batch of texts."""

    happened = "the embeddings API refuses the input"

    def advice(self) -> str:
        """What a person can do about it."""
        return "check the text's length and content against the model's limits"


class NotCalled(ApiError):
    """No call was made. ``code``: "paused" or "budget", with the reason for people, or "abandoned"."""

    def __init__(self, code: Literal["paused", "budget", "abandoned"], reason: str) -> None:
        super().__init__(code=code)
        self.reason = reason

    def __reduce__(self) -> tuple[type[NotCalled], tuple[str | None, str], dict[str, object]]:
        return type(self), (self.code, self.reason), self.__dict__

    def __str__(self) -> str:
        return self.reason


ABANDONED = NotCalled("abandoned", "nobody waits for it any more")

MalformedCode = Literal[
    "not_json",
    "wrong_shape",
    "wrong_count",
    "wrong_index",
    "wrong_dimensions",
    "not_finite",
    "zero_vector",
]


class MalformedAnswer(Transient):
    """A 2xx answer that is not what was asked for; ``code`` says in which way.

    ``not_json``: not JSON. ``wrong_shape``: not an embeddings answer. ``wrong_count``: more or fewer vectors
    than texts. ``wrong_index``: an index is missing, doubled or out of range. ``wrong_dimensions``: a
    vector of another size. ``not_finite``: NaN, an infinity, or a length beyond float32. ``zero_vector``: a
    vector without length.
    """

    happened = "the embeddings API gave a wrong answer"

    def __init__(self, code: MalformedCode) -> None:
        super().__init__(code=code)

    def __reduce__(self) -> tuple[type[MalformedAnswer], tuple[str | None], dict[str, object]]:
        return type(self), (self.code,), self.__dict__

    def advice(self) -> str:
        """What a person can do about it."""
        return "it is tried again; if it lasts, check base_url, and the model's dimensions"


class LimiterAway(WorkerError):
    """Redis does not say whether a call may be made; until it does, nobody calls."""


class Unhealthy(WorkerError):
    """The worker process at ``address`` cannot work, for these reasons."""

    def __init__(self, address: str, reasons: Iterable[str]) -> None:
        self.address = address
        self.reasons = tuple(reasons)
        super().__init__(f"the worker at {address} cannot work: {'; '.join(self.reasons)}")

    def __reduce__(self) -> tuple[type[Unhealthy], tuple[str, tuple[str, ...]]]:
        return type(self), (self.address, self.reasons)


class StoreError(WorkerError):
    """Postgres did not do what was asked."""


class DatabaseAway(StoreError):
    """Postgres cannot serve now: connection, serialization, disk, read-only. What is in hand is kept."""


class DatabaseBusy(DatabaseAway):
    """Others are in the way: a lock, a deadlock, every connection in use. Postgres itself is well."""


class RowsLocked(DatabaseBusy):
    """Other transactions hold the rows of these items; nothing of the batch was written."""

    def __init__(self, table: str, ids: Iterable[str]) -> None:
        self.table = table
        self.ids = frozenset(ids)
        super().__init__(
            f"another transaction has locked a row of {table}; end what holds it (pg_locks, pg_stat_activity)"
        )

    def __reduce__(self) -> tuple[type[RowsLocked], tuple[str, frozenset[str]]]:
        return type(self), (self.table, self.ids)


class RightsMissing(DatabaseAway):
    """The role may not do it until somebody grants it; what needs other rights goes on."""


class CollectionGone(StoreError):
    """The collection's table was dropped; ``code`` is what dead letters say."""

    code = "collection_dropped"


class ColumnGone(CollectionGone):
    """A column that the collection names was dropped or renamed in somebody's own table."""

    code = "column_gone"


class CollectionMoved(StoreError):
    """The collection's columns hold other models' vectors than was known: nothing was written."""


class StaleVector(StoreError):
    """The vector of a query comes from another model than the collection's vectors: embed the query again."""


class RowsUnfilled(StoreError):
    """Rows of a collection lack the vector of the model that it is to switch to."""


NO_ROW = "no_row"
"""Why an item cannot be written whose id has no row in somebody's own table."""


class RowRefused(StoreError):
    """Postgres refuses a row of the batch; ``sqlstate`` says why, or a word of ours: ``no_row``.

    ``ids`` are the items' whose rows it is, where that is known.
    """

    def __init__(self, sqlstate: str, ids: Iterable[str] = ()) -> None:
        self.sqlstate = sqlstate
        self.ids = frozenset(ids)
        why = "an id has no row in the table" if sqlstate == NO_ROW else f"SQLSTATE {sqlstate}"
        super().__init__(f"Postgres refuses a row ({why})")

    def __reduce__(self) -> tuple[type[RowRefused], tuple[str, frozenset[str]]]:
        return type(self), (self.sqlstate, self.ids)


class NotAJob(WorkerError):
    """A message is not a job or a query; ``code`` says in which way."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"the message is not a job ({code})")

    def __reduce__(self) -> tuple[type[NotAJob], tuple[str]]:
        return type(self), (self.code,)


class NotReplayable(WorkerError):
    """A dead letter cannot be put back on its queue; the message says why, and what to do if there is."""


class AllItemsDead(WorkerError):
    """Every item of a job became a dead letter: how monitors see such a job."""


class NotMigrated(StoreError):
    """The database has no embedq schema, or an older one."""

    def __init__(self) -> None:
        super().__init__("the database does not have embedq's schema, or an older one; run `embedq migrate`")


class CollectionConflict(StoreError):
    """A collection cannot be made: something else has its name, or it exists with other settings."""


class CollectionBusy(StoreError):
    """A collection cannot be changed now: its table is in use, or messages for it are on their way."""


class RecallUnknown(StoreError):
    """The recall of an index cannot be measured; the message says why, and what to do."""


class DriftUnknown(StoreError):
    """Whether a model drifts cannot be said; the message says why, and what to do."""


class VectorTooLong(StoreError):
    """No indexable column type holds vectors of so many dimensions."""


class BadChunks(StoreError):
    """Texts of a collection cannot be chunked so; the message says why, and what to choose."""


class SourceError(WorkerError):
    """What a collection is made from cannot be read or understood; the message says why, and what to do."""
