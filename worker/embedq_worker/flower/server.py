"""Flower's web application with our pages, and the gate before all of them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from celery import Celery
from flower.app import Flower
from flower.options import options
from flower.urls import settings as flower_settings
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.template import Loader, Template

from embedq.broker import Broker
from embedq.errors import ConfigurationError
from embedq_worker.flower.access import Access, is_loopback
from embedq_worker.flower.events import FleetEvents
from embedq_worker.flower.pages import QueueLengths, QueuesPage, Stranger
from embedq_worker.flower.rows import readable
from embedq_worker.settings import Settings

T = TypeVar("T")

TASKS = 10_000
"""Tasks in memory, 54 MB; of more the oldest are forgotten. Flower's default is ten times as many."""
WORKERS = 1_000
OFFLINE = 300
"""Seconds after which a stopped worker leaves the list: scaling down is no failure."""
_COLUMNS = "name,state,result,runtime,received,uuid"
_READERS = 8
"""Threads in which our pages ask Redis; a question has its end after some seconds."""
_LARGEST_BODY = 1 << 20
"""Bytes of a request."""
_TEMPLATES = Path(__file__).with_name("templates")


class Options(NamedTuple):
    """How to serve: where, to whom, and whether workers may be stopped and tasks revoked from the pages."""

    address: str
    port: int
    access: Access
    is_read_only: bool = True


class Monitor(Flower):
    """Flower's application; ``serving`` says to whom."""

    def __init__(self, settings: Settings, serving: Options) -> None:
        self._access = serving.access
        self._broker = Broker(settings.broker_url, settings.key_prefix)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="readers")
        _set_options(serving)
        capp, loop = client_of(settings), IOLoop.current()
        events = FleetEvents(capp, loop, tasks=TASKS, workers=WORKERS, joined=self._look_at)
        pages = _Templates(flower_settings["template_path"])
        super().__init__(
            options=options, capp=capp, events=events, io_loop=loop, **flower_settings, template_loader=pages
        )
        self.add_handlers(r".*", [(r"/broker", QueuesPage), (r"/api/queues/length", QueueLengths)])

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """The gate: for who is not let in no path is looked up, not ``/metrics`` and ``/static`` either."""
        if not self._access.admits(request.headers.get("Authorization")):
            return self._refused(request, 401, "This Flower asks for a user and a password.")
        if self._access.password is None and not is_loopback(request.host_name.strip("[]")):
            # A page on the web that has made its name lead to this machine.
            return self._refused(request, 403, "This Flower is for localhost only.")
        return super().find_handler(request, **kwargs)

    async def in_thread(self, work: Callable[[Broker], T]) -> T:
        """Ask Redis without holding up the pages.

        Not in Flower's threads: while Redis is frozen, all of them wait for it without an end.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, self._broker)

    async def run(self, listening: Callable[[int], None]) -> None:
        """Serve until SIGTERM or Ctrl-C; ``listening`` is told the port."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        server = HTTPServer(self, max_body_size=_LARGEST_BODY)
        sockets = _bind(self.options.port, self.options.address)
        server.add_sockets(sockets)
        self.events.start()
        self.update_workers()
        listening(sockets[0].getsockname()[1])
        await stopped.wait()
        server.stop()
        self.events.stop()
        for pool in (self.executor, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)
        self._broker.close()

    def _refused(self, request: HTTPServerRequest, status: int, message: str) -> Any:
        return self.get_handler_delegate(request, Stranger, {"status": status, "message": message})

    def _look_at(self, worker: str) -> None:
        """Ask a worker that is new what it is."""
        self.io_loop.add_callback(self.update_workers, worker)


def client_of(settings: Settings) -> Celery:
    """A plain Celery application: the worker's own would take messages where it takes replies."""
    client = Celery("embedq", broker=settings.broker_url)
    client.conf.update(
        broker_transport_options={
            "global_keyprefix": settings.key_prefix,
            "priority_steps": [0],
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        broker_connection_retry_on_startup=True,
        accept_content=["json"],
        task_ignore_result=True,
        task_create_missing_queues=False,
    )
    return client


def serve(settings: Settings, serving: Options, listening: Callable[[int], None]) -> None:
    """Run Flower until SIGTERM or Ctrl-C, and end the process.

    Raises ``ConfigurationError`` where it cannot listen.
    """
    # Each visit begins with a 401, as basic authentication goes.
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    # Its first look comes before any worker, and after the last one.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(settings, serving, listening))


async def _serve(settings: Settings, serving: Options, listening: Callable[[int], None]) -> None:
    await Monitor(settings, serving).run(listening)
    # Python would wait for threads that ask Redis, and kombu has them ask for as long as it is away.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(os.EX_OK)


def _set_options(serving: Options) -> None:
    """Flower's modules read them here. None is taken from FLOWER_* variables or a flowerconfig.py."""
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)  # this one is looked at on each request
    options.address, options.port = serving.address, serving.port
    options.basic_auth = [serving.access.credentials] if serving.access.credentials else []
    options.read_only = serving.is_read_only
    options.max_tasks, options.max_workers = TASKS, WORKERS
    options.purge_offline_workers = OFFLINE
    options.tasks_columns = _COLUMNS
    options.format_task = readable


def _bind(port: int, address: str) -> list[Any]:
    try:
        return bind_sockets(port, address)
    except OSError as error:
        raise ConfigurationError(
            f"Flower cannot listen on {address}, port {port} ({error.strerror}); choose others by "
            "--address and --port"
        ) from None


class _Templates(Loader):
    """Ours, and Flower's for the rest; one of ours extends Flower's of the same name as ``flower/…``."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:  # noqa: ARG002  # Tornado's
        """All are in one folder."""
        return name

    def _create_template(self, name: str) -> Template:
        own = _TEMPLATES / name
        if own.is_file():
            return Template(own.read_bytes(), name=name, loader=self)
        return super()._create_template(name.removeprefix("flower/"))
