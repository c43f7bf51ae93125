"""The API client over real HTTP: what is sent, what is bounded, and what each failure becomes."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import msgspec
import numpy as np
import pytest

from embedq.testing import FakeAPI, faults
from embedq_worker.api import Allowance, ApiClient
from embedq_worker.api.client import _failure
from embedq_worker.catalogue import Model, load_catalogue
from embedq_worker.errors import ApiError, BadDimensions, BadInput, MalformedAnswer, Refused, Transient
from embedq_worker.secret import FileSecret
from embedq_worker.settings import Secret, Settings, WorkerSettings

MODEL = load_catalogue().get("text-embedding-3-small")
DIMENSIONS = 8
TEXTS = ["one", "two", "three"]
GOOD = json.dumps({"data": [{"index": 0, "embedding": [1.0] * DIMENSIONS}]}).encode()

Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A server that records requests as they are on the wire, and answers with given bytes."""

    def __init__(self, reply: bytes | Reply) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        """What a model is given as base_url."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def heads(self) -> list[str]:
        """Request lines and headers, in lower case."""
        return [request.partition(b"\r\n\r\n")[0].decode().lower() for request in self.requests]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request of a connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                self.requests.append(head + await reader.readexactly(length))
                if isinstance(self.reply, bytes):
                    writer.write(self.reply)
                else:
                    await self.reply(head, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(reply: bytes | Reply) -> AsyncIterator[RawServer]:
    """Run a RawServer on a free port."""
    raw = RawServer(reply)
    server = await asyncio.start_server(raw.handle, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A complete answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def client_of(api: FakeAPI | RawServer | str, key: str | None = None, **worker: Any) -> ApiClient:
    """A client whose default service is ``api``."""
    url = api if isinstance(api, str) else api.base_url if isinstance(api, FakeAPI) else api.url
    secret = None if key is None else Secret(key)
    return ApiClient(Settings(api_base_url=url, api_key=secret, worker=WorkerSettings(**worker)))


async def failure(client: ApiClient, texts: list[str] = TEXTS, model: Model = MODEL) -> ApiError:
    """The error that a call ends in."""
    async with client:
        with pytest.raises(ApiError) as caught:
            await client.embed(model, texts, DIMENSIONS, "document")
    assert caught.value.model == model.id
    return caught.value


async def test_vectors_belong_to_their_texts(fake_api: FakeAPI) -> None:
    """Each text gets the vector that the API has for it, and the tokens are told."""
    async with client_of(fake_api) as client:
        answer = await client.embed(MODEL, TEXTS, DIMENSIONS, "document")

    expected = np.stack([fake_api.vector(text, DIMENSIONS) for text in TEXTS])
    assert answer.vectors.tobytes() == expected.tobytes()
    assert answer.tokens is not None


async def test_calls_run_side_by_side_without_a_limit_of_the_client(fake_api: FakeAPI) -> None:
    """More calls than any default pool size are in flight at once."""
    fake_api.inject(faults.Hang())
    async with client_of(fake_api) as client:
        calls = [asyncio.create_task(client.embed(MODEL, ["x"], DIMENSIONS, "document")) for _ in range(130)]
        await asyncio.to_thread(fake_api.wait_for, calls=130, in_flight=130)
        for call in calls:
            call.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError)
            for end in await asyncio.gather(*calls, return_exceptions=True)
        )


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


async def test_shuffled_answers_are_put_in_order(fake_api: FakeAPI) -> None:
    """The order of the answer is not trusted."""
    fake_api.inject(faults.ShuffledOrder())
    async with client_of(fake_api) as client:
        answer = await client.embed(MODEL, TEXTS, DIMENSIONS, "document")

    assert answer.vectors[0].tobytes() == fake_api.vector("one", DIMENSIONS).tobytes()


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


async def test_redirects_are_not_followed() -> None:
    """The key and the texts stay where the settings say."""
    async with serving(http(200, GOOD)) as other:
        redirect = http(307, b"", f"location: {other.url}/embeddings")
        async with serving(redirect) as server:
            error = await failure(client_of(server, key="sk-default"))

    assert (type(error), error.status, error.code) == (Refused, 307, "redirect")
    assert other.requests == []
    assert "redirects are not followed" in str(error)


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy variable can divert the texts."""
    async with serving(http(502)) as proxy, serving(http(200, GOOD)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        async with client_of(server) as client:
            await client.embed(MODEL, ["x"], DIMENSIONS, "document")

    assert (len(proxy.requests), len(server.requests)) == (0, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_cookies_are_not_kept(host: str) -> None:
    """A cookie of one answer is not in the next request, for a name as for an address."""
    reply = http(200, GOOD, "set-cookie: session=1; path=/")
    async with serving(reply) as server, client_of(server.url.replace("127.0.0.1", host)) as client:
        for _ in range(2):
            await client.embed(MODEL, ["x"], DIMENSIONS, "document")

    assert len(server.heads) == 2
    assert not any("cookie" in head for head in server.heads)


async def test_the_default_key_goes_to_the_default_service_only() -> None:
    """A model's own server gets the model's own key or none; the default service gets the default key."""
    own = "authorization: bearer sk-own"
    async with serving(http(200, GOOD)) as default, serving(http(200, GOOD)) as other:
        elsewhere = msgspec.structs.replace(MODEL, base_url=other.url)
        keyed = msgspec.structs.replace(elsewhere, api_key=Secret("sk-own"))
        async with client_of(default, key="sk-default") as client:
            for model in (MODEL, elsewhere, keyed):
                await client.embed(model, ["x"], DIMENSIONS, "document")

    assert "authorization: bearer sk-default" in default.heads[0]
    assert "authorization" not in other.heads[0]
    assert own in other.heads[1]


async def test_without_a_key_nothing_is_claimed() -> None:
    """Local servers need no key, and get no header."""
    async with serving(http(200, GOOD)) as server, client_of(server) as client:
        await client.embed(MODEL, ["x"], DIMENSIONS, "document")

    head = server.heads[0]
    assert head.startswith("post /v1/embeddings http/1.1")
    assert "authorization" not in head
    assert "accept-encoding: identity" in head
    assert "content-type: application/json" in head
    assert "user-agent: embedq/" in head


async def test_a_body_of_some_megabytes_is_sent_with_its_length() -> None:
    """A large batch goes out whole, with a length, as not every server takes chunks."""
    text = "x" * 3_000_000
    async with serving(http(200, GOOD)) as server, client_of(server) as client:
        await client.embed(MODEL, [text], DIMENSIONS, "document")

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert json.loads(body)["input"] == [text]
    assert b"chunked" not in head.lower()


async def test_dimensions_are_checked_before_anything_is_sent() -> None:
    """A size that the model lacks costs no call."""
    async with serving(http(200, GOOD)) as server, client_of(server) as client:
        with pytest.raises(BadDimensions):
            await client.embed(MODEL, ["x"], 5_000, "document")

    assert server.requests == []


async def test_connections_are_used_again() -> None:
    """Calls one after the other share a connection."""
    connections = set()

    async def remember(_: bytes, writer: asyncio.StreamWriter) -> None:
        connections.add(writer.get_extra_info("peername"))
        writer.write(http(200, GOOD))

    async with serving(remember) as server, client_of(server) as client:
        for _ in range(3):
            await client.embed(MODEL, ["x"], DIMENSIONS, "document")

    assert len(connections) == 1


LIMITS = ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 6m0s")
TOLD = Allowance(remaining_requests=0, requests_reset=360.0)


async def test_an_answer_tells_what_is_left(fake_api: FakeAPI) -> None:
    """What the headers of a right answer and of a refusal say of the limits arrives."""
    fake_api.configure(requests_per_minute=1, tokens_per_minute=50, ratelimit_headers=True)
    async with client_of(fake_api) as client:
        answer = await client.embed(MODEL, ["x" * 40], DIMENSIONS, "document")
    error = await failure(client_of(fake_api))

    for allowance in (answer.allowance, error.allowance):
        assert allowance is not None
        assert (allowance.limit_requests, allowance.remaining_requests) == (1, 0)
        assert (allowance.limit_tokens, allowance.remaining_tokens) == (50, 40)
        assert allowance.requests_reset is not None
        assert 50 < allowance.requests_reset <= 60


async def test_an_answer_that_tells_nothing_has_no_allowance(fake_api: FakeAPI) -> None:
    """Most servers tell nothing."""
    async with client_of(fake_api) as client:
        assert (await client.embed(MODEL, ["x"], DIMENSIONS, "document")).allowance is None
    fake_api.inject(faults.Status(429))
    assert (await failure(client_of(fake_api))).allowance is None


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [(200, b"{", "not_json"), (200, b" " * 2_000, "reply_too_large"), (429, b"", None), (401, b"", None)],
)
async def test_every_failure_tells_what_is_left(status: int, body: bytes, code: str | None) -> None:
    """Wherever there was a reply, its headers count."""
    async with serving(http(status, body, *LIMITS)) as server:
        error = await failure(client_of(server, max_reply_bytes=1_000))

    assert (error.code, error.allowance) == (code, TOLD)


async def test_a_date_to_come_back_counts_by_the_service_s_clock() -> None:
    """Our clock may be years off."""
    dates = ("date: Wed, 21 Oct 2015 07:28:00 GMT", "retry-after: Wed, 21 Oct 2015 07:28:07 GMT")
    async with serving(http(503, b"", *dates)) as server:
        assert (await failure(client_of(server))).retry_after == 7.0


async def test_a_key_that_changes_is_used_by_the_next_call(
    fake_api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mended key needs neither a new client nor a new connection."""
    monkeypatch.setattr("embedq_worker.secret.CHECK_SECONDS", 0.0)
    fake_api.configure(api_key="right")
    file = tmp_path / "key"
    file.write_text("a-wrong-one")
    async with ApiClient(Settings(api_base_url=fake_api.base_url, api_key=FileSecret(file))) as client:
        with pytest.raises(Refused):
            await client.embed(MODEL, TEXTS, DIMENSIONS, "document")
        file.write_text("right")
        answer = await client.embed(MODEL, TEXTS, DIMENSIONS, "document")

    assert len(answer.vectors) == len(TEXTS)


@pytest.mark.parametrize(
    ("below", "code"), [(aiohttp.ConnectionTimeoutError(), "connect_timeout"), (TimeoutError(), "timeout")]
)
def test_time_outs_are_told_apart(below: Exception, code: str) -> None:
    """A service that is not reached is another case than one that is slow."""
    above = httpx.ConnectTimeout("")
    above.__cause__ = below

    assert (_failure(below), _failure(above)) == (code, code)
