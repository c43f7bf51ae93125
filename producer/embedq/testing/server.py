"""The fake API's process: ``python -m embedq.testing.server``.

Prints one JSON line with its port, process id and token, then serves ``/v1`` and, for who knows the token,
the control endpoints under ``/_control``.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import math
import os
import secrets
import signal
import sys
from collections import defaultdict
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from embedq.testing.control import CONTROL_PATH, TOKEN_HEADER, Behaviour, CallRecord, Configuration, Wait
from embedq.testing.exchange import Exchange
from embedq.testing.faults import Fault, NoFault
from embedq.testing.meter import Meter, RateWindow
from embedq.testing.rules import ArmedRule, Rule
from embedq.testing.wire import EMBEDDINGS_PATH, Asked, RefusedError, check, parse, retry_date

MAX_REQUEST_BYTES = 256 << 20
_NO_FAULT = NoFault()


class Period:
    """Everything from one reset to the next; a call keeps the one it began in."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.ended = asyncio.Event()
        self.rules: list[ArmedRule] = []
        self.windows: defaultdict[str, RateWindow] = defaultdict(RateWindow)
        self._settings: defaultdict[str | None, dict[str, Any]] = defaultdict(dict)
        self._behaviours: dict[str, Behaviour] = {}

    def configure(self, configuration: Configuration) -> None:
        """Change settings; raises ``msgspec.ValidationError`` and changes nothing if one is wrong."""
        settings = self._settings[configuration.model] | configuration.settings
        msgspec.convert(settings, Behaviour)
        self._settings[configuration.model] = settings
        self._behaviours.clear()

    def behaviour(self, model: str) -> Behaviour:
        """The settings of a model: its own before everybody's."""
        if model not in self._behaviours:
            settings = self._settings[None] | self._settings.get(model, {})
            self._behaviours[model] = msgspec.convert(settings, Behaviour)
        return self._behaviours[model]

    def models(self) -> list[str]:
        """The models that were configured or called."""
        return sorted({model for model in (*self._settings, *self.meter.stats().models) if model})

    def fault(self, asked: Asked) -> Fault:
        """The fault that this call gets."""
        return next((fault for rule in self.rules if (fault := rule.hits(asked))), _NO_FAULT)


class Service:
    """The endpoints."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._period = Period()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post(EMBEDDINGS_PATH, self.embeddings)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post(CONTROL_PATH + "/{name}", self.control)
        return app

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/embeddings``."""
        body = await request.read()
        period = self._period
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            asked = parse(body)
        except RefusedError as refusal:
            with period.meter.call("", 0, 0, key) as record:
                return await _refuse(_exchange(request, period, record, None), refusal)
        with period.meter.call(asked.model, len(asked.texts), asked.tokens, key) as record:
            return await _answer(_exchange(request, period, record, asked), period, asked)

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """``GET /v1/models``: the models that were configured or called."""
        entries = [{"id": model, "object": "model"} for model in self._period.models()]
        return _json({"object": "list", "data": entries})

    async def control(self, request: web.Request) -> web.StreamResponse:
        """``POST /_control/…``, for who started the server: a mixed-up port never steers another's."""
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, ""), self._token):
            return web.Response(status=403, text="the token is not this server's")
        try:
            return _json(await self._obey(request.match_info["name"], await request.read()))
        except (msgspec.DecodeError, LookupError) as error:
            return web.Response(status=400, text=str(error))

    async def _obey(self, name: str, body: bytes) -> object:
        meter = self._period.meter
        match name:
            case "configure":
                self._period.configure(msgspec.json.decode(body, type=Configuration))
            case "inject":
                self._period.rules.append(ArmedRule(msgspec.json.decode(body, type=Rule)))
            case "reset":
                self._reset()
            case "stats":
                return meter.stats()
            case "calls":
                return list(meter.records)
            case "billed":
                return meter.times_billed(msgspec.json.decode(body, type=list[bytes]))
            case "billings":
                return meter.billings(msgspec.json.decode(body, type=list[bytes]))
            case "wait":
                return await meter.wait_for(msgspec.json.decode(body, type=Wait))
            case "identity":
                return {"pid": os.getpid()}
            case _:
                raise LookupError(f"there is no control {name!r}")
        return None

    def _reset(self) -> None:
        self._period.ended.set()
        self._period = Period()


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _exchange(request: web.Request, period: Period, record: CallRecord, asked: Asked | None) -> Exchange:
    behaviour = period.behaviour(record.model)
    return Exchange(request, behaviour, period.meter, record, asked, period.ended, {})


async def _answer(exchange: Exchange, period: Period, asked: Asked) -> web.StreamResponse:
    behaviour = exchange.behaviour
    stats = period.meter.model(asked.model)
    stats.last_request = asked.fields
    try:
        check(asked, behaviour, exchange.request.headers.get("Authorization"))
    except RefusedError as refusal:
        return await _refuse(exchange, refusal)
    if behaviour.max_concurrency is not None and stats.in_flight > behaviour.max_concurrency:
        return await exchange.refuse(HTTPStatus.TOO_MANY_REQUESTS, "Too many concurrent requests")
    window = period.windows[asked.model]
    wait = window.admit(behaviour, asked.tokens, exchange.record.at)
    if behaviour.ratelimit_headers:
        exchange.headers = window.headers(behaviour, exchange.record.at)
    if wait > 0.0:
        headers = _retry_after(behaviour, wait)
        return await exchange.refuse(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests", headers=headers)
    exchange.record.admitted = True
    return await period.fault(asked).respond(exchange)


def _retry_after(behaviour: Behaviour, wait: float) -> dict[str, str]:
    """The wait, never told shorter than it is."""
    seconds = math.ceil(wait)
    match behaviour.retry_after:
        case False:
            return {}
        case True:
            return {"Retry-After": str(seconds)}
        case "date":
            return retry_date(seconds)
        case "ms":
            return {"Retry-After": str(seconds), "retry-after-ms": str(math.ceil(wait * 1000))}


async def _refuse(exchange: Exchange, refusal: RefusedError) -> web.StreamResponse:
    return await exchange.refuse(refusal.status, refusal.message, data=refusal.data)


async def serve(host: str, port: int, *, with_parent: bool) -> None:
    """Serve until SIGINT or SIGTERM, or with ``with_parent`` until standard input ends."""
    token = secrets.token_hex(16)
    # A call whose client went away is over: its handler is cancelled, and it no longer counts as in flight.
    runner = web.AppRunner(Service(token).application(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024, shutdown_timeout=0.1)
    await site.start()
    stop = _stop_event(with_parent)
    hello = {"port": runner.addresses[0][1], "pid": os.getpid(), "token": token}
    sys.stdout.write(json.dumps(hello) + "\n")
    sys.stdout.flush()
    await stop.wait()
    await runner.cleanup()


def _stop_event(with_parent: bool) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if with_parent:
        # Nothing is ever written to it: readable means that its other end, the parent, is gone.
        loop.add_reader(sys.stdin.fileno(), stop.set)
    return stop


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m embedq.testing.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) picks a free one")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.host, arguments.port, with_parent=arguments.with_parent))


if __name__ == "__main__":
    main()
