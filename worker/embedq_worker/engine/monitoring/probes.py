"""The probes: ``/livez`` and ``/readyz`` over HTTP, for whatever watches over the process, and ``/metrics``.

To a probe 200 and ``{"reasons": []}``, or 503 and the reasons. Served on the engine's loop: where that stands
still no answer comes, and the probe's own time-out says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import redis.asyncio as redis
from aiohttp import web
from redis.exceptions import RedisError

from embedq_worker.engine.monitoring.health import Health
from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.logs import get_logger
from embedq_worker.metrics.exposition import page

BeforePage = Callable[[], Awaitable[None]]
"""Brings up to date what a page of metrics says; it does not take long, whatever is away."""
Handler = Callable[[web.Request], Awaitable[web.Response]]


logger = get_logger(__name__)

_ASK_EVERY = 1.0
"""Seconds between two questions to Redis."""
_LISTEN_AGAIN = 5.0
"""Seconds until a port that is taken is tried again."""


class Probes:
    """Answers probes at ``host`` and ``port`` until it is closed."""

    def __init__(self, health: Health, before_page: BeforePage, *, host: str, port: int) -> None:
        self._address = (host, port)
        application = web.Application()
        application.router.add_get("/livez", _answering(health.not_live))
        application.router.add_get("/readyz", _answering(health.not_ready))
        application.router.add_get("/metrics", _paging(before_page))
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)

    async def run(self) -> None:
        """Listen, until cancelled. A port that is taken is waited for: work goes on without probes."""
        await self._runner.setup()
        try:
            await self._listen()
            await asyncio.Event().wait()
        finally:
            await self._runner.cleanup()

    async def _listen(self) -> None:
        host, port = self._address
        said = False
        while True:
            try:
                await web.TCPSite(self._runner, host, port).start()
            except OSError as error:
                if not said:
                    logger.error(
                        "probes_unanswered",
                        "probes cannot be answered at {host}:{port} ({reason}); free it, or set "
                        "EMBEDQ_METRICS_PORT",
                        host=host,
                        port=port,
                        reason=error.strerror,
                    )
                said = True
                await asyncio.sleep(_LISTEN_AGAIN)
            else:
                return


async def listen_to(client: redis.Redis, pulse: Pulse) -> None:
    """Let ``pulse`` beat for as long as Redis answers."""
    while True:
        try:
            await client.ping()
        except (RedisError, OSError):
            pulse.miss()
        else:
            pulse.beat()
        await asyncio.sleep(_ASK_EVERY)


def _answering(reasons: Callable[[], list[str]]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        said = reasons()
        return web.json_response({"reasons": said}, status=503 if said else 200)

    return answer


def _paging(before_page: BeforePage) -> Handler:
    writing = asyncio.Lock()

    async def answer(request: web.Request) -> web.Response:
        await before_page()
        # In a thread: with hundreds of collections it takes long, and calls and answers must go on meanwhile.
        # In one at a time: each more takes the interpreter from the engine.
        async with writing:
            body, content_type = await asyncio.to_thread(page, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return answer
