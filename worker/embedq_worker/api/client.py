"""One HTTP client a process: sends a call, reads the answer within bounds of time and bytes.

The transport is httpx-aiohttp, since httpx's own pool scans all its connections at each request. Nothing is
read from the process's environment (proxies, netrc), no cookie is kept, no redirect followed: a key goes only
where the settings say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from embedq_worker.api.allowance import Allowance, read_allowance
from embedq_worker.api.refusal import classify
from embedq_worker.api.request import Purpose, build_request
from embedq_worker.api.response import Answer, read_answer
from embedq_worker.catalogue import Model
from embedq_worker.errors import ApiError, Transient
from embedq_worker.secret import Secret
from embedq_worker.settings import Settings

MAX_ERROR_BYTES = 64 << 10
"""Bytes read of an answer other than 2xx; its code stands at the beginning."""
ONE_PIECE = 1 << 20
"""Bytes of a request body that aiohttp takes in one piece without a warning."""
_PIECE = 256 << 10

_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "certificate"),
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (aiohttp.ClientConnectorError, "connect"),
    (aiohttp.ClientPayloadError, "cut"),
    (aiohttp.ClientResponseError, "not_http"),
    (aiohttp.ClientConnectionError, "reset"),
    (httpx.DecodingError, "undecodable"),
    (OSError, "reset"),
)
"""The first match counts; a time-out is looked for before."""


class _Reply(NamedTuple):
    """A 2xx reply that was read whole."""

    body: bytes
    allowance: Allowance | None


class ApiClient:
    """An async context manager for one event loop; open as long as the worker runs.

    Connections are not limited here: the limiter decides how many calls there are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        worker = self._settings.worker
        timeout = httpx.Timeout(
            worker.read_timeout, connect=worker.connect_timeout, pool=worker.connect_timeout
        )
        self._http = httpx.AsyncClient(
            transport=_transport(),
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={
                "accept": "application/json",
                "accept-encoding": "identity",
                "content-type": "application/json",
                "user-agent": f"embedq/{version('embedq')}",
            },
        )
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        await self._http.__aexit__(kind, error, trace)

    async def embed(self, model: Model, texts: Sequence[str], dimensions: int, purpose: Purpose) -> Answer:
        """Give one vector of ``dimensions`` for each of ``texts``, in their order.

        Raises ``BadDimensions`` before anything is sent, and an ``ApiError``: ``Transient`` (also for a
        broken connection, a time-out or an answer that is not what was asked for), ``Refused``, ``BadInput``.
        """
        body = build_request(model, texts, dimensions, purpose)
        allowance = None
        try:
            reply, allowance = await self._post(model, texts, body)
            return read_answer(reply, len(texts), dimensions, allowance)
        except ApiError as error:
            error.model = model.id
            error.allowance = error.allowance or allowance
            raise

    async def _post(self, model: Model, texts: Sequence[str], body: bytes) -> _Reply:
        try:
            async with asyncio.timeout(self._settings.worker.request_timeout):
                return await self._exchange(model, texts, body)
        except ApiError:
            raise
        except Exception as error:
            # Whatever breaks below must not end the engine.
            raise Transient(code=_failure(error)) from error

    async def _exchange(self, model: Model, texts: Sequence[str], body: bytes) -> _Reply:
        assert self._http is not None, "ApiClient is used outside of `async with`"
        base_url, key = self._destination(model)
        headers = {"content-length": str(len(body))}
        if key is not None:
            headers["authorization"] = f"Bearer {key.reveal()}"
        content = body if len(body) <= ONE_PIECE else _pieces(body)
        async with self._http.stream(
            "POST", f"{base_url}/embeddings", content=content, headers=headers
        ) as reply:
            try:
                return await self._take(reply, texts)
            except ApiError as error:
                error.allowance = read_allowance(reply.headers)
                raise

    async def _take(self, reply: httpx.Response, texts: Sequence[str]) -> _Reply:
        if not reply.is_success:
            said = await _read(reply, MAX_ERROR_BYTES)
            raise _refusal(reply, said, texts)
        limit = self._settings.worker.max_reply_bytes
        answer = await _read(reply, limit)
        if len(answer) > limit:
            raise Transient(reply.status_code, "reply_too_large")
        return _Reply(answer, read_allowance(reply.headers))

    def _destination(self, model: Model) -> tuple[str, Secret | None]:
        """The default key is never sent to a model's own server."""
        if model.base_url is not None:
            return model.base_url.rstrip("/"), model.api_key
        return self._settings.api_base_url.rstrip("/"), model.api_key or self._settings.api_key


def _transport() -> AiohttpTransport:
    certificates = httpx.create_ssl_context(trust_env=False)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=certificates),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )
    return AiohttpTransport(verify=certificates, trust_env=False, client=session)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


async def _read(reply: httpx.Response, limit: int) -> bytes:
    """Read until the end, or until more than ``limit`` bytes are there."""
    parts = []
    size = 0
    async for part in reply.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    return b"".join(parts)


def _refusal(reply: httpx.Response, said: bytes, texts: Sequence[str]) -> ApiError:
    error = classify(reply.status_code, said, reply.headers, texts)
    if reply.is_redirect and error.code is None:
        error.code = "redirect"
    return error


def _failure(error: BaseException) -> str:
    """A short code for what broke; httpx's own mapping calls a dropped connection a connect time-out."""
    cause = error.__cause__ if isinstance(error, httpx.TransportError) and error.__cause__ else error
    if isinstance(cause, TimeoutError) and not isinstance(cause, aiohttp.ConnectionTimeoutError):
        return "timeout"
    return next((code for kind, code in _FAILURES if isinstance(cause, kind)), "unexpected")
