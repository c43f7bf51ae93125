"""One installation of embedq for tests: servers, settings, and what is asked of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, LiteralString, Self

from embedq.contract import Versions
from embedq.errors import EmbedqError
from embedq.testing import FakeAPI
from embedq_sql import statement
from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.process import private_folder, remove_folder
from embedq_worker.embedded.valkey import Valkey
from embedq_worker.embedded.worker import WorkerServer
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection, list_collections
from embedq_worker.store.dead_letters.listing import Choice, list_dead_letters
from embedq_worker.store.fleet.backlog import waiting
from embedq_worker.store.long_texts import LongTexts
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import connect
from embedq_worker.testing.emptying import empty

MODEL = "text-embedding-3-small"
_LETTERS = 10_000
_POLL_SECONDS = 0.01


class NotSettledError(EmbedqError):
    """Items are not embedded yet; the message says what still waits, and whether a worker runs."""


class Installation:
    """Postgres with embedq's schema, Valkey and a fake API, temporary and private: a context manager.

    ``environment`` holds the ``EMBEDQ_*`` variables that point embedq at them, ``settings`` what a worker
    makes of these. ``configuration`` is TOML, as ``EMBEDQ_CONFIG`` names it.
    """

    def __init__(self, api: FakeAPI, configuration: str = "") -> None:
        self.api = api
        self.postgres = Postgres(durable=False)
        self.valkey = Valkey(password=secrets.token_urlsafe(16))
        self.environment: dict[str, str] = {}
        self.settings = Settings()
        self._configuration = configuration
        self._workers: list[WorkerServer] = []
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            folder = private_folder("embedq-testing-")
            cleanup.callback(remove_folder, folder)
            cleanup.enter_context(self.postgres)
            cleanup.enter_context(self.valkey)
            self.environment = self._environment(folder)
            self.settings = Settings.from_environment(self.environment)
            with connect(self.postgres.url) as connection:
                apply_migrations(connection)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @contextmanager
    def worker(self, *arguments: str) -> Iterator[WorkerServer]:
        """A worker of one process, with the arguments of ``embedq worker``."""
        with WorkerServer(self.environment, arguments) as worker:
            worker.wait()
            self._workers.append(worker)
            try:
                yield worker
            finally:
                self._workers.remove(worker)

    def create(
        self,
        name: str,
        *,
        model: str = MODEL,
        dimensions: int | None = None,
        versions: Versions = "clock",
        long_texts: LongTexts | None = None,
    ) -> Collection:
        """Create a collection, its table in the schema ``public``; one that is there already is emptied.

        Raises ``CollectionConflict`` where it is there with other settings, and other ``EmbedqError``.
        """
        usable = self.settings.catalogue.usable(model)
        with open_database(self.settings) as connection, open_broker(self.settings) as broker:
            made = create_collection(
                connection,
                name=name,
                model=usable,
                dimensions=dimensions,
                versions=versions,
                long_texts=long_texts,
            )
            publish(connection, broker, self.settings)
            empty(connection, broker, made)
        return made

    def sql(self, query: LiteralString, parameters: Sequence[object] = ()) -> list[Any]:
        """The rows of a statement, each a tuple; it is committed."""
        with connect(self.postgres.url) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def dead_letters(self, collection: str) -> dict[str | None, str]:
        """Why items of a collection cannot be embedded: the code of each, by its id."""
        with connect(self.postgres.url) as connection:
            letters = list_dead_letters(connection, Choice(collection=collection), _LETTERS)
        return {letter.item_id: letter.code for letter in letters}

    def settled(self, timeout: float = 30.0) -> None:
        """Wait until everything enqueued, by the outbox too, is stored, superseded or a dead letter.

        Raises ``NotSettledError`` after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with open_database(self.settings) as connection, open_broker(self.settings) as broker:
            # The outbox first: what leaves it unsettled is in Redis.
            while left := self._outbox(connection) or self._messages(connection, broker):
                if time.monotonic() > deadline:
                    raise NotSettledError(f"not settled within {timeout:g} s: {left}{self._worker_state()}")
                time.sleep(_POLL_SECONDS)

    def _outbox(self, connection: Any) -> str:
        (rows,) = connection.execute(statement("count_unsettled")).fetchone()
        return f"{rows} rows of the outbox" if rows else ""

    def _messages(self, connection: Any, broker: Any) -> str:
        found = {
            each.name: broker.call(lambda client, name=each.name: waiting(client, name))
            for each in list_collections(connection)
        }
        return ", ".join(
            f"{sum(each.queued.values())} messages of {name} are queued and {each.in_hand} in hand"
            for name, each in found.items()
            if each
        )

    def _worker_state(self) -> str:
        if not self._workers:
            return "; no worker runs: use the fixture embedq_worker, or worker()"
        ended = [worker for worker in self._workers if not worker.running]
        return "".join(f"; a worker ended, its log says:\n{worker.log()}" for worker in ended)

    def _environment(self, folder: Path) -> dict[str, str]:
        configuration = folder / "embedq.toml"
        configuration.write_text(self._configuration)
        return {
            "EMBEDQ_BROKER_URL": self.valkey.url,
            "EMBEDQ_DATABASE_URL": self.postgres.url,
            "EMBEDQ_API_BASE_URL": self.api.base_url,
            "EMBEDQ_API_KEY": "none-is-needed",
            "EMBEDQ_CONFIG": str(configuration),
            "EMBEDQ_KEY_PREFIX": "",
        }
