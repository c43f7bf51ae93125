"""What a worker is told: environment variables and one TOML file.

>>> settings = Settings.from_environment()
>>> settings.catalogue.usable("text-embedding-3-small").max_concurrency
16

Each field says its default. Everything wrong is a ``ConfigurationError`` that names the variable, or the file
and the key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from embedq.address import Address
from embedq.contract import Lane
from embedq.errors import ConfigurationError
from embedq_worker.catalogue import Catalogue, load_catalogue
from embedq_worker.catalogue.loading import FACTS, USER_KEYS
from embedq_worker.keys import check_keys, convert
from embedq_worker.logs.form import PROCESS_NUMBER, Form, read_form
from embedq_worker.secret import FileSecret, Secret, check_key
from embedq_worker.worker_settings import WorkerSettings

__all__ = ["Secret", "Settings", "WorkerSettings"]

LOCAL_BROKER = "redis://localhost:6379/0"
LOCAL_DATABASE = "postgresql://localhost/postgres"
AIMLAPI = "https://api.aimlapi.com/v1"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker is told; made by ``from_environment``, or directly in tests."""

    broker_url: str = LOCAL_BROKER
    """``EMBEDQ_BROKER_URL``: Redis or Valkey, with ``rediss://`` over TLS: the server's certificate is
    checked unless the URL says ``ssl_cert_reqs=none``. The signs / ? # of a password are written %2F %3F %23.
    Default: a local one."""

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
            broker_url=Address(_url(given, "EMBEDQ_BROKER_URL", LOCAL_BROKER, ("redis", "rediss"))).for_kombu,
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
