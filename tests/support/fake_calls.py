"""Calls of the fake API over plain HTTP."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

TEXTS = ["how leases lapse", "naïve 猫", "a third"]


async def post(http: aiohttp.ClientSession, **fields: Any) -> tuple[int, Any, Any]:
    """Status, JSON (or text) and headers of one call."""
    body = {"model": "m", "input": TEXTS} | fields
    async with http.post("embeddings", json=body, allow_redirects=False) as response:
        text = await response.text()
        is_json = response.content_type.endswith("json") and text.endswith("}")
        return response.status, json.loads(text) if is_json else text, response.headers
