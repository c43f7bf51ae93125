"""An API client of a server of the test's, and the errors that its calls end in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedq.testing import FakeAPI
from embedq_worker.api import ApiClient
from embedq_worker.catalogue import Model, load_catalogue
from embedq_worker.errors import ApiError
from embedq_worker.settings import Secret, Settings, WorkerSettings
from tests.support.raw_server import RawServer

MODEL = load_catalogue().get("text-embedding-3-small")
DIMENSIONS = 8
TEXTS = ["one", "two", "three"]
GOOD = json.dumps({"data": [{"index": 0, "embedding": [1.0] * DIMENSIONS}]}).encode()


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
