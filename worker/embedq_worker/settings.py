"""What a worker is told: environment variables and one TOML file.

>>> settings = Settings.from_environment()
>>> settings.catalogue.usable("text-embedding-3-small").max_concurrency
16

Each field says its default, its unit, and what breaks when it is too low or too high. Everything wrong is a
``ConfigurationError`` that names the variable, or the file and the key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from embedq.address import checking_certificates
from embedq.contract import Lane
from embedq.errors import ConfigurationError
from embedq_worker.catalogue import Catalogue, load_catalogue
from embedq_worker.catalogue.loading import FACTS, USER_KEYS
from embedq_worker.keys import check_keys, convert
from embedq_worker.logs.form import PROCESS_NUMBER, Form, read_form
from embedq_worker.secret import FileSecret, Secret, check_key

__all__ = ["Secret", "Settings", "WorkerSettings"]

LOCAL_BROKER = "redis://localhost:6379/0"
LOCAL_DATABASE = "postgresql://localhost/postgres"
AIMLAPI = "https://api.aimlapi.com/v1"

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0, le=60)]
Days = Annotated[float, Meta(gt=0, le=36_500)]
Lease = Annotated[float, Meta(ge=1, le=3_600)]


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[worker]`` of the file: how one worker process works."""

    in_hand: Count = 2_048
    """Messages that a process holds, per queue. Default 2,048. Too low starves the batches of single-item
    messages: no more of them are done in a second than this divided by the seconds that a call and a
    commit take. Too high makes a crash hand back more messages, and takes memory."""

    batch_wait: Wait = 0.010
    """Seconds that the oldest text waits for company while a call could start. Default 0.010. Too low
    makes many small requests; too high delays a lone text by as much."""

    lease: Lease = 30.0
    """Seconds that the right to one concurrent call lives without renewal, and a claim of a text in the
    cache of vectors. Default 30. Too low (below 5) and a process that pauses or misses Redis for a moment
    lets the fleet exceed its limit, or ask for its texts again; too high and a crashed worker's slots and
    texts stay lost for as long."""

    message_lease: Lease = 30.0
    """Seconds within which the messages of a dead worker are taken over. Default 30. Too low (below 5) and a
    process that pauses or misses Redis for a moment is taken for dead, and what it was calling for is billed
    twice; too high and a crash delays what was in hand for as long."""

    drain_time: Seconds = 30.0
    """Seconds for calls in flight to end when the worker stops. Default 30. Too low throws paid answers
    away; too high outlasts the supervisor's patience, which kills. Should exceed a usual call."""

    database_connections: Count = 4
    """Connections to Postgres per process. Default 4. Too low queues the writes of several collections
    behind one another; too high, times processes, exceeds ``max_connections``."""

    database_timeout: Annotated[float, Meta(ge=0.1, le=86_400)] = 60.0
    """Seconds of one statement in Postgres, writing 500 rows at once included. Default 60. Too low, and a
    write that takes longer, as into a big vector index on a slow disk, never ends; too high, and a connection
    over which no answer comes any more holds up the rows for as long."""

    connect_timeout: Seconds = 5.0
    """Seconds to reach the API: name, TCP, TLS. Default 5. Too low fails on slow networks; too high
    holds a slot of the model for a server that is gone."""

    read_timeout: Seconds = 60.0
    """Seconds without a byte from the API. Default 60. Too low gives up calls that are billed all the
    same; too high holds a slot for a call that is dead."""

    request_timeout: Seconds = 120.0
    """Seconds of a whole call, a dripping answer included. Default 120; a longer ``read_timeout``
    has no effect. Too low and too high as there."""

    max_reply_bytes: Count = 64 << 20
    """Bytes of an answer. Default 64 MiB; 2,048 vectors of 3,072 dimensions are 34 MB as base64 and up to
    140 MB as numbers. Too low refuses good answers for ever; too high lets a broken server fill memory."""

    retry_time: Seconds = 60.0
    """Seconds that transient failures of one batch are retried as a whole; then in halves, so that one text
    does not hold up its neighbours. Default 60. Too low makes many small calls of a bad minute; too high
    keeps neighbours of a text that breaks the service waiting."""

    window_items: Annotated[int, Meta(ge=256)] = 8_192
    """Items in hand per collection, lane and process. Default 8,192; at least a message's 256. Too low
    starves the batches; too high lets a slow model's texts fill the memory. All queues together have eight
    times as much, and then a sixteenth each."""

    window_bytes: Annotated[int, Meta(ge=1 << 20)] = 32 << 20
    """Bytes of text in hand per collection, lane and process. Default 32 MiB; at least a message's 1 MiB.
    Too low, too high and all together as ``window_items``."""

    vector_cache_days: Annotated[int, Meta(ge=0, le=3_650)] = 0
    """Days since its last use after which a vector is forgotten that was kept for equal texts, of any item,
    collection and process. Default 0: none is kept, and equal texts cost one call in each process. Too low
    pays again for texts that come back later; too high fills the database with a second copy of each vector.
    The same in all workers: the lowest forgets, and those without it ask for themselves."""

    dead_letter_text_days: Days = 30.0
    """Days after which the text of a dead letter is removed, counted from when it died last; the letter
    stays. Default 30. Too low and the text is gone before the cause is mended, so that it cannot be
    replayed; too high keeps texts that somebody may have asked to delete. The lowest of the fleet's counts.
    """

    tombstone_days: Days = 30.0
    """Days for which a deleted id is remembered. Default 30. Too low and an older message, or a dead letter
    that is replayed, brings a deleted id back; too high keeps a row of the ledger for each deleted id. Must
    exceed the longest time that a message may wait in a queue, and should not be below
    ``dead_letter_text_days``. The lowest of the fleet's counts."""

    outbox_poll: Annotated[float, Meta(ge=0.02, le=60)] = 0.2
    """Seconds between two looks at the outbox, up to three times as long while nothing is in it. Default 0.2.
    Too low asks Postgres many times a second in each process; too high delays what is enqueued in SQL by as
    much."""

    outbox_queue: Count = 200
    """Messages in a queue, of up to 256 items each, up to which more is sent to it from the outbox. Default
    200. Too low and workers may run out of work between two looks; too high fills the memory of Redis with
    what could wait in Postgres, and has more to send again when Redis was emptied."""

    outbox_resend: Annotated[float, Meta(ge=1, le=2_592_000)] = 3_600.0
    """Seconds after which an item that was sent to Redis, and became nothing since, is sent again, unless
    messages as old still wait in its queue or its model is paused. Default 3,600. Too low sends twice what is
    merely slow; too high, and what a Redis lost in a crash or a failover waits for as long."""

    drift_hours: Annotated[float, Meta(ge=0, le=8_760)] = 6.0
    """Hours after which a model in use is checked for drift again, with a few fixed texts of some 250 tokens.
    Default 6; 0: only when ``embedq drift check`` asks. Too low pays for calls that find nothing; too high,
    and rows of another model are mixed with yours for as long before somebody is told. The lowest of the
    fleet's counts."""

    drift_distance: Annotated[float, Meta(gt=0, le=2)] = 0.001
    """Cosine distance from a model's first vectors up to which nothing drifts. Default 0.001. Too low takes
    the noise of a service for another model; too high overlooks a near relative of the model. The same in all
    workers."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker is told; made by ``from_environment``, or directly in tests."""

    broker_url: str = LOCAL_BROKER
    """``EMBEDQ_BROKER_URL``: Redis or Valkey, with ``rediss://`` over TLS: the server's certificate is
    checked unless the URL says ``ssl_cert_reqs=none``. Default: a local one."""

    database_url: str = LOCAL_DATABASE
    """``EMBEDQ_DATABASE_URL``: Postgres with pgvector. Default: the database that every local server has.
    PgBouncer in transaction mode will not do."""

    api_base_url: str = AIMLAPI
    """``EMBEDQ_API_BASE_URL``: the OpenAI-compatible service of models without a ``base_url``, with its
    version, without ``/embeddings``."""

    api_key: Secret | None = None
    """``EMBEDQ_API_KEY``, or what is in ``EMBEDQ_API_KEY_FILE``, also after it has changed. Only sent to
    ``api_base_url``."""

    key_prefix: str = ""
    """``EMBEDQ_KEY_PREFIX``: put before every Redis key, also the queues'. Producers need the same."""

    metrics_port: int | None = None
    """``EMBEDQ_METRICS_PORT``: where the process answers ``/livez`` and ``/readyz`` over HTTP. Default: none.
    Of ``--processes N`` the first has this port, the next ones those after it."""

    metrics_host: str = "127.0.0.1"
    """``EMBEDQ_METRICS_HOST``: the address that it listens on there. Default 127.0.0.1; another lets
    everybody who reaches it read what the worker says of itself, without a password."""

    log_format: Form = "human"
    """``EMBEDQ_LOG_FORMAT``: "human", a sentence a line, or "json", an object a line. Default human, also
    where nobody watches: a log reads the same in a terminal and in a file."""

    collections: tuple[str, ...] = ()
    """``--collections``: the collections to serve; empty: all."""

    lanes: tuple[Lane, ...] = ("query", "live", "bulk")
    """``--lanes``: the lanes to serve."""

    worker: WorkerSettings = WorkerSettings()
    catalogue: Catalogue = msgspec.field(default_factory=load_catalogue)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables and the file that ``EMBEDQ_CONFIG`` names; empty variables count as unset.

        Raises ``ConfigurationError``.
        """
        given = {name: value for name, value in environ.items() if name.startswith("EMBEDQ_") and value}
        worker, catalogue = _read_file(given.get("EMBEDQ_CONFIG"))
        return cls(
            broker_url=checking_certificates(
                _url(given, "EMBEDQ_BROKER_URL", LOCAL_BROKER, ("redis", "rediss"))
            ),
            database_url=_url(given, "EMBEDQ_DATABASE_URL", LOCAL_DATABASE, ("postgresql", "postgres")),
            api_base_url=_base_url(given.get("EMBEDQ_API_BASE_URL", AIMLAPI), "EMBEDQ_API_BASE_URL"),
            api_key=_api_key(given),
            key_prefix=given.get("EMBEDQ_KEY_PREFIX", ""),
            metrics_port=_metrics_port(given),
            metrics_host=given.get("EMBEDQ_METRICS_HOST", "127.0.0.1"),
            log_format=read_form(given),
            worker=worker,
            catalogue=catalogue,
        )

    def __repr__(self) -> str:
        places = (_hide_password(self.broker_url), _hide_password(self.database_url), self.api_base_url)
        return f"Settings({', '.join(places)}, {self.worker!r})"


def _read_file(name: str | None) -> tuple[WorkerSettings, Catalogue]:
    if name is None:
        return WorkerSettings(), load_catalogue()
    try:
        tables = tomllib.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"EMBEDQ_CONFIG: {name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"EMBEDQ_CONFIG: {name} is not TOML: {error}") from error
    check_keys(tables, ("models", "worker"), name)
    worker = _table(tables, "worker", name)
    check_keys(worker, WorkerSettings.__struct_fields__, f"{name}: [worker]")
    return convert(worker, WorkerSettings, f"{name}: [worker]"), _catalogue(
        _table(tables, "models", name), name
    )


def _table(tables: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    table = tables.get(key, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where}: {key} must be a table, [{key}]")
    return table


def _catalogue(models: dict[str, Any], file: str) -> Catalogue:
    prepared = {}
    for name in models:
        where = f'{file}: [models."{name}"]'
        prepared[name] = _prepare_model(_table(models, name, f"{file}: models"), where, Path(file).parent)
    return load_catalogue().overlay(prepared, file)


def _prepare_model(table: dict[str, Any], where: str, folder: Path) -> dict[str, Any]:
    """Check the address and replace ``api_key_file`` by a secret that reads it."""
    if "api_key" in table:
        raise ConfigurationError(f"{where}: api_key: keys do not belong into this file; use api_key_file")
    check_keys(table, (FACTS | USER_KEYS | {"api_key_file"}) - {"api_key"}, where)
    prepared = dict(table)
    if "base_url" in prepared:
        prepared["base_url"] = _base_url(prepared["base_url"], f"{where}: base_url")
    if "api_key_file" in prepared:
        if "base_url" not in prepared:
            raise ConfigurationError(f"{where}: api_key_file: a key of its own needs a base_url of its own")
        prepared["api_key"] = secret_in_file(prepared.pop("api_key_file"), f"{where}: api_key_file", folder)
    return prepared


def _api_key(given: Mapping[str, str]) -> Secret | None:
    if "EMBEDQ_API_KEY" in given and "EMBEDQ_API_KEY_FILE" in given:
        raise ConfigurationError("EMBEDQ_API_KEY and EMBEDQ_API_KEY_FILE are both set; unset one of them")
    if "EMBEDQ_API_KEY" in given:
        try:
            return Secret(check_key(given["EMBEDQ_API_KEY"]))
        except ValueError as error:
            raise ConfigurationError(f"EMBEDQ_API_KEY: {error}") from None
    if "EMBEDQ_API_KEY_FILE" in given:
        return secret_in_file(given["EMBEDQ_API_KEY_FILE"], "EMBEDQ_API_KEY_FILE", Path())
    return None


def secret_in_file(name: object, where: str, folder: Path) -> Secret:
    """What is in the file that the setting ``where`` names. Raises ``ConfigurationError``."""
    if not isinstance(name, str):
        raise ConfigurationError(f"{where}: expected the name of a file")
    try:
        return FileSecret(folder / name)
    except OSError as error:
        raise ConfigurationError(f"{where}: {name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: {name} is not text") from None
    except ValueError as error:
        raise ConfigurationError(f"{where}: {name}: {error}") from None


def _url(given: Mapping[str, str], name: str, default: str, schemes: tuple[str, ...]) -> str:
    url = given.get(name, default)
    if url.partition("://")[0] not in schemes or "://" not in url:
        raise ConfigurationError(f"{name}: expected a URL that starts with {schemes[0]}://")
    return url


def _metrics_port(given: Mapping[str, str]) -> int | None:
    """The port of this process: the supervisor numbers those that it starts."""
    if "EMBEDQ_METRICS_PORT" not in given:
        return None
    port, number = given["EMBEDQ_METRICS_PORT"], given.get(PROCESS_NUMBER, "0")
    if not (port.isdecimal() and number.isdecimal() and 0 < int(port) + int(number) < 1 << 16):
        raise ConfigurationError("EMBEDQ_METRICS_PORT: expected a TCP port, such as 9100")
    return int(port) + int(number)


def _base_url(url: object, where: str) -> str:
    """Check the address of a service; the message does not quote it, as it may hold a password."""
    if not isinstance(url, str):
        raise ConfigurationError(f"{where}: expected a string")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(character.isspace() for character in url):
        raise ConfigurationError(f"{where}: expected http:// or https:// with a host, such as {AIMLAPI}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{where}: no user, query or fragment may be in it; keys go into api_key_file"
        )
    return url.rstrip("/")


def _hide_password(url: str) -> str:
    return _PASSWORD.sub("***", url)


_PASSWORD = re.compile(r"(?<=:)[^:@/]*(?=@)|(?<=password=)[^&]*")
