"""The fake API, over real HTTP: answers, limits, counts and every fault."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
import pytest_asyncio

from embedq.testing import FakeAPI, FakeAPIError, faults, tokens_of, vector_of
from embedq.testing.control import CONTROL_PATH
from tests.support.fake_calls import TEXTS, post


@pytest_asyncio.fixture
async def http(fake_api: FakeAPI) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that ends with the test, so that no call of one test lasts into the next."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(fake_api.base_url + "/", timeout=timeout) as session:
        yield session


def test_the_openai_client_gets_the_vectors(fake_api: FakeAPI) -> None:
    """OpenAI's own client reads the answer, which has each text's vector bit for bit."""
    with openai.OpenAI(base_url=fake_api.base_url, api_key="x") as client:
        answer = client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
        models = [model.id for model in client.models.list()]

    for entry, text in zip(answer.data, TEXTS, strict=True):
        assert np.array_equal(np.asarray(entry.embedding, np.float32), vector_of(text, 1536))
    assert answer.usage.total_tokens == sum(map(tokens_of, TEXTS))
    assert models == ["text-embedding-3-small"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_both_encodings_carry_the_same_bits(http: aiohttp.ClientSession, encoding: str) -> None:
    """Lists and base64 both give float32s exactly, in the asked dimensions, for a lone string too."""
    status, answer, _ = await post(http, input=TEXTS[1], encoding_format=encoding, dimensions=5)

    embedding = answer["data"][0]["embedding"]
    if encoding == "base64":
        embedding = np.frombuffer(base64.b64decode(embedding), "<f4")
    assert (status, len(answer["data"])) == (200, 1)
    assert np.array_equal(np.float32(embedding), vector_of(TEXTS[1], 5))


@pytest.mark.parametrize(
    "fields",
    [
        {"input": [1, 2]},
        {"input": [[1, 2]]},
        {"input": []},
        {"input": ""},
        {"input": ["fine", ""]},
        {"input": None},
        {"model": ""},
        {"dimensions": 0},
        {"encoding_format": None},
        {"input": ["x"] * 2049},
    ],
)
async def test_wrong_requests_are_a_400(http: aiohttp.ClientSession, fields: dict[str, Any]) -> None:
    """What the gateway refuses is refused, token arrays among it, in its envelope."""
    status, answer, headers = await post(http, **fields)

    assert status == 400
    assert headers["Content-Type"].startswith("application/problem+json")
    assert answer["error"]["name"] == "BadRequestException"


async def test_a_body_that_is_not_json_is_a_400(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Broken JSON and lone surrogates are refused and counted under no model."""
    for body in (b"{", b'{"model":"m","input":"\\ud800"}', b'{"model":"m","input":"\xff"}'):
        async with http.post("embeddings", data=body) as response:
            assert response.status == 400
    assert fake_api.stats().models[""].calls == 3


async def test_limits_of_characters_follow_the_form(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """A lone string may be longer than a string of an array."""
    fake_api.configure("m", max_characters=8, max_characters_in_array=4)

    inputs: list[str | list[str]] = ["x" * 8, "x" * 9, ["x" * 4], ["x" * 5]]
    assert [(await post(http, input=given))[0] for given in inputs] == [200, 400, 200, 400]


async def test_a_required_key_is_checked(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Without the right key there is a 401."""
    fake_api.configure(api_key="right")

    assert (await post(http))[0] == 401
    async with http.post(
        "embeddings", json={"model": "m", "input": "x"}, headers={"Authorization": "Bearer right"}
    ) as response:
        assert response.status == 200


async def test_latency_is_kept(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """An answer takes the latency and the texts' share, and a model's own setting goes first."""
    fake_api.configure(latency=5.0, latency_per_text=0.05)
    fake_api.configure("m", latency=0.1)
    began = time.monotonic()

    await post(http)

    assert 0.25 <= time.monotonic() - began < 2.0


async def test_calls_in_flight_are_counted_and_capped(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Calls beyond the cap of a model get 429 at once, those of another model do not."""
    fake_api.configure("m", max_concurrency=2)
    fake_api.inject(faults.Hang(), next_calls=3)
    hanging = []
    for number, model in enumerate(("m", "m", "other"), start=1):
        hanging.append(asyncio.create_task(post(http, model=model)))
        await asyncio.to_thread(fake_api.wait_for, calls=number, in_flight=number)

    status, _, _ = await post(http)
    stats, records = fake_api.stats(), fake_api.calls()
    for task in hanging:
        task.cancel()

    assert status == 429
    assert (stats.in_flight, stats.max_in_flight) == (3, 4)
    assert [(r.in_flight, r.ended is None) for r in records] == [(1, True), (2, True), (1, True), (3, False)]
    assert {model: (s.calls, s.max_in_flight) for model, s in stats.models.items()} == {
        "m": (3, 3),
        "other": (1, 1),
    }


async def test_a_client_that_leaves_is_not_in_flight(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """When the client closes its connection, the call is over without a status, and nothing was billed."""
    fake_api.configure(latency=30.0)
    task = asyncio.create_task(post(http))
    await asyncio.to_thread(fake_api.wait_for, in_flight=1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await asyncio.to_thread(fake_api.wait_until_idle)
    stats = fake_api.stats()
    assert (stats.in_flight, stats.statuses, stats.billed_texts) == (0, {0: 1}, 0)


async def test_rates_are_limited(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Beyond the limits there is a 429 that says when to come back."""
    fake_api.configure(requests_per_minute=2, tokens_per_minute=100, minute=30.0, ratelimit_headers=True)

    answers = [await post(http, input="x" * 40) for _ in range(3)]

    assert [status for status, _, _ in answers] == [200, 200, 429]
    headers = answers[2][2]
    assert 28 <= int(headers["Retry-After"]) <= 30
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-remaining-tokens"] == "80"
    assert re.fullmatch(r"[23]\d(\.\d+)?s", headers["x-ratelimit-reset-requests"])


async def test_tokens_are_limited_and_may_be_silent(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """The limit of tokens refuses too, without headers if so configured."""
    fake_api.configure(tokens_per_minute=15, retry_after=False)

    answers = [await post(http, input="x" * 40) for _ in range(2)]

    assert [status for status, _, _ in answers] == [200, 429]
    assert "Retry-After" not in answers[1][2]


async def test_the_wait_has_other_forms(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """A refusal's wait can be a date by the answer's own clock, or told in milliseconds too."""
    fake_api.configure(requests_per_minute=1, minute=30.0)
    await post(http)
    waits = []
    for form in ("date", "ms"):
        fake_api.configure(retry_after=form)
        status, _, headers = await post(http)
        assert status == 429
        waits.append(headers)

    dated, exact = waits
    sent, later = (parsedate_to_datetime(dated[name]) for name in ("Date", "Retry-After"))
    assert 28 <= (later - sent).total_seconds() <= 30
    assert 28_000 < int(exact["retry-after-ms"]) <= 1_000 * int(exact["Retry-After"]) <= 30_000
    with pytest.raises(FakeAPIError, match="retry_after"):
        fake_api.configure(retry_after="soon")


async def test_the_busiest_minute_counts_what_is_admitted(
    http: aiohttp.ClientSession, fake_api: FakeAPI
) -> None:
    """Calls that the limits count are admitted, whatever a fault makes of them; refused ones are not."""
    fake_api.configure("m", requests_per_minute=2, api_key="right")
    fake_api.inject(faults.Status(429), model="m", next_calls=1)
    statuses = [(await post(http))[0]]
    http.headers["Authorization"] = "Bearer right"
    statuses += [(await post(http, input="x" * 40))[0] for _ in range(3)]
    await post(http, model="other")

    assert statuses == [401, 429, 200, 429]
    assert [record.admitted for record in fake_api.calls("m")] == [False, True, True, False]
    assert fake_api.busiest_minute("m") == (2, 20)
    assert fake_api.busiest_minute("m", minute=1e-9) == (1, 10)
    models = fake_api.stats().models
    assert (models["m"].statuses, models["other"].statuses) == ({401: 1, 429: 2, 200: 1}, {200: 1})


async def test_billed_texts_are_counted(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Only whole and right answers bill their texts."""
    fake_api.inject(faults.Status(500), next_calls=1)
    fake_api.inject(faults.WrongCount(), next_calls=1)
    for given in (["a"], ["a"], ["a", "b"], ["a"]):
        await post(http, input=given)

    stats = fake_api.stats()
    assert (stats.billed_texts, stats.billed_again) == (2, 1)
    assert fake_api.billed(["a", "b", "c"]) == [2, 1, 0]


async def test_who_was_billed_is_known_by_its_key(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Each text's calls, oldest first, with the keys that they carried."""
    for key, given in (("first", ["a", "b"]), ("second", ["b"])):
        body = {"model": "m", "input": given}
        await (await http.post("embeddings", json=body, headers={"Authorization": f"Bearer {key}"})).release()
    await post(http, input=["c"])

    billings = fake_api.billings(["a", "b", "c", "d"])
    assert [[call.key for call in calls] for calls in billings] == [["first"], ["first", "second"], [""], []]
    assert billings[1] == fake_api.calls()[:2]


async def test_calls_are_remembered_one_by_one(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Each call has its time, by a clock that the test can read, and its size."""
    before = time.monotonic()
    await post(http, input_type="document")
    await post(http, model="other", input="x" * 9)

    records = fake_api.calls()
    assert [(r.model, r.texts, r.tokens, r.status) for r in records] == [
        ("m", 3, sum(map(tokens_of, TEXTS)), 200),
        ("other", 1, 3, 200),
    ]
    ended = [record.ended or 0.0 for record in records]
    assert before <= records[0].at <= ended[0] <= records[1].at <= ended[1] <= time.monotonic()
    assert fake_api.calls("other") == records[1:]
    last = fake_api.stats().models["m"].last_request
    assert last == {"model": "m", "input": "array", "input_type": "document"}


def test_wrong_settings_are_refused(fake_api: FakeAPI) -> None:
    """A setting that does not exist, or a value that cannot be, changes nothing and says why."""
    with pytest.raises(FakeAPIError, match="latencyy"):
        fake_api.configure(latencyy=1.0)
    with pytest.raises(FakeAPIError, match="latency"):
        fake_api.configure(latency=-1.0)
    with pytest.raises(FakeAPIError, match="next_calls"):
        fake_api.inject(faults.Hang(), next_calls=0)


def test_waiting_has_an_end(fake_api: FakeAPI) -> None:
    """What does not happen is an error after the time given."""
    with pytest.raises(FakeAPIError, match=r"waited 0\.05 s for 1 calls"):
        fake_api.wait_for(calls=1, timeout=0.05)


async def test_control_needs_the_token(http: aiohttp.ClientSession, fake_api: FakeAPI) -> None:
    """Nobody steers a server that is not theirs."""
    url = fake_api.base_url.removesuffix("/v1") + CONTROL_PATH
    async with http.post(f"{url}/reset") as response:
        assert response.status == 403
