"""The API client over real HTTP: what is sent and to whom, and what an answer tells."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from embedq.testing import FakeAPI, faults
from embedq_worker.api import ApiClient
from embedq_worker.errors import BadDimensions, Refused
from embedq_worker.secret import FileSecret
from embedq_worker.settings import Secret, Settings
from tests.support.api_client import DIMENSIONS, GOOD, MODEL, TEXTS, client_of, failure
from tests.support.raw_server import http, serving


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


async def test_shuffled_answers_are_put_in_order(fake_api: FakeAPI) -> None:
    """The order of the answer is not trusted."""
    fake_api.inject(faults.ShuffledOrder())
    async with client_of(fake_api) as client:
        answer = await client.embed(MODEL, TEXTS, DIMENSIONS, "document")

    assert answer.vectors[0].tobytes() == fake_api.vector("one", DIMENSIONS).tobytes()


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
