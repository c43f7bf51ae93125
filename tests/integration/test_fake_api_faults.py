"""The fake API's faults, over real HTTP, and the rules that choose their calls."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from embedq.testing import FakeAPI, faults, vector_of
from tests.support.fake_calls import TEXTS, post


@pytest_asyncio.fixture
async def http(fake_api: FakeAPI) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that ends with the test, so that no call of one test lasts into the next."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(fake_api.base_url + "/", timeout=timeout) as session:
        yield session


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (faults.Status(), 500, "InternalServerErrorException"),
        (faults.Status(524), 524, "ErrorException"),
        (faults.RefusedKey(), 401, "UnauthorizedException"),
        (faults.NoCredits(), 403, "ForbiddenException"),
        (faults.MissingModel(), 404, "NotFoundException"),
        (faults.BadText(422), 422, "UnprocessableEntityException"),
    ],
)
async def test_refusals(
    http: aiohttp.ClientSession, fake_api: FakeAPI, fault: faults.AnyFault, status: int, code: str
) -> None:
    """Each refusal has its status and the gateway's envelope."""
    fake_api.inject(fault)

    got, answer, _ = await post(http)

    assert (got, answer["status"]) == (status, status)
    assert answer["error"]["name"].startswith(code[:9])


async def test_a_status_has_other_forms(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """The flat envelope, a body of one's own, Retry-After in both forms and other headers can be had."""
    fake_api.inject(faults.Status(429, envelope="flat", retry_after="2"), next_calls=1)
    fake_api.inject(faults.Status(500, body='{"error":"too large to process"}'), next_calls=1)
    fake_api.inject(faults.Status(503, retry_date=7, headers={"x-ratelimit-reset-requests": "-1"}))

    first, second, third = [await post(http) for _ in range(3)]

    assert (first[1]["statusCode"], first[2]["Retry-After"]) == ("429", "2")
    assert (second[0], second[1]) == (500, {"error": "too large to process"})
    sent, later = (parsedate_to_datetime(third[2][name]) for name in ("Date", "Retry-After"))
    assert (third[0], third[2]["x-ratelimit-reset-requests"]) == (503, "-1")
    assert (later - sent).total_seconds() == 7


@pytest.mark.parametrize(
    ("fault", "indexes", "lengths"),
    [
        (faults.WrongCount(), [0, 1], [4, 4]),
        (faults.WrongCount(extra=True), [0, 1, 2, 3], [4, 4, 4, 4]),
        (faults.WrongIndex(), [1, 2, 3], [4, 4, 4]),
        (faults.RepeatedIndex(), [0, 0, 0], [4, 4, 4]),
        (faults.WrongDimensions(), [0, 1, 2], [3, 3, 3]),
        (faults.WrongDimensions(extra=True), [0, 1, 2], [5, 5, 5]),
    ],
)
async def test_answers_of_the_wrong_shape(
    http: aiohttp.ClientSession,
    fake_api: FakeAPI,
    fault: faults.AnyFault,
    indexes: list[int],
    lengths: list[int],
) -> None:
    """Counts, indexes and dimensions are wrong as asked, with status 200."""
    fake_api.inject(fault)

    status, answer, _ = await post(http, dimensions=4)

    assert status == 200
    assert [entry["index"] for entry in answer["data"]] == indexes
    assert [len(entry["embedding"]) for entry in answer["data"]] == lengths
    assert fake_api.stats().billed_texts == 0


async def test_a_shuffled_answer_is_right_by_its_indexes(
    http: aiohttp.ClientSession, fake_api: FakeAPI
) -> None:
    """The order is not the texts', the indexes are."""
    fake_api.inject(faults.ShuffledOrder())

    _, answer, _ = await post(http, dimensions=4)

    assert [entry["index"] for entry in answer["data"]] == [2, 1, 0]
    for entry in answer["data"]:
        assert np.array_equal(np.float32(entry["embedding"]), vector_of(TEXTS[entry["index"]], 4))
    assert fake_api.stats().billed_texts == 3


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        (faults.NotFinite(), np.isnan),
        (faults.NotFinite("-inf"), np.isneginf),
        (faults.ZeroVector(), lambda x: x == 0.0),
    ],
)
async def test_vectors_that_cannot_be(
    http: aiohttp.ClientSession, fake_api: FakeAPI, fault: faults.AnyFault, first: Any
) -> None:
    """The first vector is spoiled, its neighbours are right."""
    fake_api.inject(fault)

    _, answer, _ = await post(http, encoding_format="base64", dimensions=4)

    rows = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in answer["data"]]
    assert first(rows[0][0])
    assert np.array_equal(rows[1], vector_of(TEXTS[1], 4))


async def test_usage_may_be_withheld(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """``usage`` is null, or not there."""
    fake_api.inject(faults.NoUsage(), next_calls=1)
    fake_api.inject(faults.NoUsage("missing"))

    assert (await post(http))[1]["usage"] is None
    assert "usage" not in (await post(http))[1]


async def test_floats_come_though_base64_was_asked(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """The format that was asked for is ignored."""
    fake_api.inject(faults.Floats())

    _, answer, _ = await post(http, encoding_format="base64")

    assert isinstance(answer["data"][0]["embedding"], list)


@pytest.mark.parametrize("fault", [faults.CutBody(), faults.Reset(), faults.Reset(share=0.0)])
async def test_broken_connections(
    http: aiohttp.ClientSession, fake_api: FakeAPI, fault: faults.AnyFault
) -> None:
    """The client sees the connection break, and the call has no status."""
    fake_api.inject(fault, next_calls=1)

    with pytest.raises(aiohttp.ClientError):
        await post(http)
    assert (await post(http))[0] == 200
    assert fake_api.stats().statuses == {0: 1, 200: 1}


async def test_what_is_not_json(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """A page of HTML and JSON that stops, both with status 200."""
    fake_api.inject(faults.NotJSON(), next_calls=1)
    fake_api.inject(faults.CutJSON())

    page, cut = await post(http), await post(http)

    assert (page[0], page[1][:6]) == (200, "<html>")
    assert (cut[0], cut[1][:10]) == (200, '{"object":')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(cut[1])


async def test_a_redirect(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """The client is sent elsewhere."""
    fake_api.inject(faults.Redirect(location="http://127.0.0.1:9/"))

    status, _, headers = await post(http)

    assert (status, headers["Location"]) == (307, "http://127.0.0.1:9/")


async def test_a_huge_reply_goes_on_until_the_client_leaves(
    http: aiohttp.ClientSession, fake_api: FakeAPI
) -> None:
    """As many bytes come as were promised, or as the client reads."""
    fake_api.inject(faults.HugeReply(size=200_000), next_calls=1)
    fake_api.inject(faults.HugeReply())

    assert len((await post(http))[1]) == 200_000
    async with http.post("embeddings", json={"model": "m", "input": "x"}) as response:
        assert response.content_length == 1 << 30
        assert await response.content.readexactly(100_000) == b" " * 100_000


async def test_a_slow_drip_arrives_in_the_end(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """The right answer takes its time."""
    fake_api.inject(faults.SlowDrip(seconds=0.3, pieces=3))
    began = time.monotonic()

    status, answer, _ = await post(http)

    assert time.monotonic() - began >= 0.3
    assert (status, len(answer["data"])) == (200, 3)
    assert fake_api.stats().billed_texts == 3


async def test_a_reset_of_the_api_ends_what_hangs(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Reset drops hanging calls and forgets everything, and what they do afterwards counts nowhere."""
    fake_api.inject(faults.Hang())
    fake_api.configure(latency=1.0)
    task = asyncio.create_task(post(http))
    await asyncio.to_thread(fake_api.wait_for, in_flight=1)

    fake_api.reset()

    with pytest.raises(aiohttp.ClientError):
        await task
    assert fake_api.stats().calls == 0
    assert (await post(http))[0] == 200


async def test_rules_choose_their_calls(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """A rule hits by model and marker, and the first that hits counts."""
    fake_api.inject(faults.MissingModel(), model="gone")
    fake_api.inject(faults.BadText(), marker="POISON")
    fake_api.inject(faults.Status(503), model="m", next_calls=1)

    assert (await post(http, model="gone", input="POISON"))[0] == 404
    assert (await post(http, input=["fine", "a POISON pill"]))[0] == 400
    assert [(await post(http, input="fine"))[0] for _ in range(2)] == [503, 200]


async def test_probability_is_replayable(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """The same seed hits the same calls, about as many as asked."""

    async def run(seed: int) -> list[int]:
        fake_api.reset()
        fake_api.inject(faults.Status(), probability=0.3, seed=seed)
        return [(await post(http, dimensions=2))[0] for _ in range(60)]

    first = await run(7)
    assert first == await run(7)
    assert first != await run(8)
    assert 8 <= first.count(500) <= 30


async def test_noise_turns_vectors_by_a_distance(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Each time in another direction; length and order stay."""
    fake_api.inject(faults.Noise(0.01))

    said = [(await post(http, dimensions=64))[1]["data"] for _ in range(2)]

    one, other = [np.array([entry["embedding"] for entry in entries]) for entries in said]
    right = np.array([vector_of(text, 64) for text in TEXTS])
    for vectors in (one, other):
        assert np.einsum("ij,ij->i", vectors, right) == pytest.approx(0.99, abs=1e-6)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert not np.array_equal(one, other)
    assert fake_api.stats().billed_texts == 0
