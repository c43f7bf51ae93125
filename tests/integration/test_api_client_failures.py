"""The API client over real HTTP: what is bounded, and what each failure becomes."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import aiohttp
import httpx
import pytest

from embedq.testing import FakeAPI, faults
from embedq_worker.api import Allowance
from embedq_worker.api.client import _failure
from embedq_worker.errors import ApiError, BadInput, MalformedAnswer, Refused, Transient
from tests.support.api_client import DIMENSIONS, GOOD, MODEL, client_of, failure
from tests.support.raw_server import http, serving


@pytest.mark.parametrize(
    ("fault", "kind", "status", "code"),
    [
        (faults.RefusedKey(), Refused, 401, None),
        (faults.NoCredits(), Refused, 403, "err_insufficent_credits"),
        (faults.MissingModel(), Refused, 404, None),
        (faults.BadText(), BadInput, 400, "custom"),
        (faults.Status(status=503, retry_after="3"), Transient, 503, None),
        (faults.Status(status=429), Transient, 429, None),
        (faults.Reset(share=0.0), Transient, None, "reset"),
        (faults.CutBody(), Transient, None, "cut"),
        (faults.CutJSON(), MalformedAnswer, None, "not_json"),
        (faults.NotJSON(), MalformedAnswer, None, "not_json"),
        (faults.WrongCount(), MalformedAnswer, None, "wrong_count"),
        (faults.WrongIndex(), MalformedAnswer, None, "wrong_index"),
        (faults.RepeatedIndex(), MalformedAnswer, None, "wrong_index"),
        (faults.WrongDimensions(), MalformedAnswer, None, "wrong_dimensions"),
        (faults.NotFinite(), MalformedAnswer, None, "not_finite"),
    ],
)
async def test_each_fault_becomes_its_class(
    fake_api: FakeAPI, fault: Any, kind: type[ApiError], status: int | None, code: str | None
) -> None:
    """What goes wrong at the API arrives as the class that decides what happens next."""
    fake_api.inject(fault)
    error = await failure(client_of(fake_api))

    assert isinstance(error, kind)
    assert error.status == status
    assert code is None or error.code == code
    assert error.retry_after == (3.0 if status == 503 else None)


async def test_a_reset_in_the_middle_is_transient(fake_api: FakeAPI) -> None:
    """A TCP reset after half of the answer is a broken connection."""
    fake_api.inject(faults.Reset(share=0.5))
    error = await failure(client_of(fake_api))

    assert isinstance(error, Transient)
    assert error.code in ("reset", "cut")
    assert error.__cause__ is not None


async def test_a_silent_server_is_given_up(fake_api: FakeAPI) -> None:
    """No byte within the read time-out is a time-out."""
    fake_api.inject(faults.Hang())

    assert (await failure(client_of(fake_api, read_timeout=0.1))).code == "timeout"


async def test_a_dripping_answer_is_given_up(fake_api: FakeAPI) -> None:
    """Bytes that never end are stopped by the time-out of the whole call."""
    fake_api.inject(faults.SlowDrip(seconds=30.0, pieces=300))

    assert (await failure(client_of(fake_api, request_timeout=0.4, read_timeout=5.0))).code == "timeout"


async def test_a_huge_reply_is_not_read(fake_api: FakeAPI) -> None:
    """An answer beyond the limit of bytes is dropped on the way."""
    fake_api.inject(faults.HugeReply())
    error = await failure(client_of(fake_api, max_reply_bytes=200_000))

    assert (type(error), error.status, error.code) == (Transient, 200, "reply_too_large")


async def test_a_reply_of_exactly_the_limit_is_read() -> None:
    """The limit itself is allowed, one byte more is not."""
    async with serving(http(200, GOOD)) as server:
        async with client_of(server, max_reply_bytes=len(GOOD)) as client:
            assert (await client.embed(MODEL, ["x"], DIMENSIONS, "document")).vectors.shape == (1, DIMENSIONS)
        assert (
            await failure(client_of(server, max_reply_bytes=len(GOOD) - 1), ["x"])
        ).code == "reply_too_large"


@pytest.mark.parametrize(("status", "code"), [(200, "reply_too_large"), (500, None)])
async def test_an_endless_reply_is_not_read(status: int, code: str | None) -> None:
    """A reply without an end is dropped at the limit, not at the time-out; a refusal far earlier."""

    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n".encode())
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()

    async with serving(endless) as server:
        error = await failure(client_of(server, request_timeout=5.0, max_reply_bytes=1_000_000))

    assert (error.status, error.code) == (status, code)


async def test_nobody_listening_is_transient() -> None:
    """A refused connection is a failure to connect."""
    async with serving(b"") as server:
        url = server.url
    error = await failure(client_of(url))

    assert (type(error), error.code) == (Transient, "connect")


async def test_an_unknown_host_is_transient() -> None:
    """A name that does not resolve is a failure to connect."""
    assert (await failure(client_of("http://nowhere.invalid/v1"))).code == "connect"


async def test_a_server_without_tls_is_told_apart() -> None:
    """HTTPS to a server that speaks plain HTTP is a TLS failure."""

    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(400))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await failure(client_of(f"https://127.0.0.1:{port}/v1"))
    server.close()

    assert (type(error), error.code) == (Transient, "tls")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "not_http"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-encoding: gzip\r\n\r\nhello", "undecodable"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "not_http"),
    ],
)
async def test_what_is_not_http_is_transient(reply: bytes, code: str) -> None:
    """Broken HTTP and an undecodable body are failures of the connection, not of embedq."""
    async with serving(reply) as server:
        error = await failure(client_of(server, read_timeout=5.0))

    assert (type(error), error.code) == (Transient, code)


async def test_a_compressed_answer_is_read_within_the_limit() -> None:
    """A proxy may compress although nobody asked; the limit counts what comes out."""
    bomb = http(200, gzip.compress(b" " * 5_000_000), "content-encoding: gzip")
    async with serving(http(200, gzip.compress(GOOD), "content-encoding: gzip")) as server:
        async with client_of(server) as client:
            assert (await client.embed(MODEL, ["x"], DIMENSIONS, "document")).vectors.shape == (1, DIMENSIONS)
        server.reply = bomb
        assert (await failure(client_of(server, max_reply_bytes=100_000))).code == "reply_too_large"


async def test_an_unexpected_exception_below_becomes_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of a library must not end the engine; it is kept as the cause."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with serving(http(200, GOOD)) as server:
        client = client_of(server)
        monkeypatch.setattr(httpx.AsyncClient, "stream", broken)
        error = await failure(client)

    assert (error.code, type(error.__cause__)) == ("unexpected", ZeroDivisionError)


LIMITS = ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 6m0s")
TOLD = Allowance(remaining_requests=0, requests_reset=360.0)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [(200, b"{", "not_json"), (200, b" " * 2_000, "reply_too_large"), (429, b"", None), (401, b"", None)],
)
async def test_every_failure_tells_what_is_left(status: int, body: bytes, code: str | None) -> None:
    """Wherever there was a reply, its headers count."""
    async with serving(http(status, body, *LIMITS)) as server:
        error = await failure(client_of(server, max_reply_bytes=1_000))

    assert (error.code, error.allowance) == (code, TOLD)


@pytest.mark.parametrize(
    ("below", "code"), [(aiohttp.ConnectionTimeoutError(), "connect_timeout"), (TimeoutError(), "timeout")]
)
def test_time_outs_are_told_apart(below: Exception, code: str) -> None:
    """A service that is not reached is another case than one that is slow."""
    above = httpx.ConnectTimeout("")
    above.__cause__ = below

    assert (_failure(below), _failure(above)) == (code, code)
