"""The JSON Schema of the contract, generated from ``embedq.contract``: ``python -m embedq.schema``."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from embedq.contract import Job, Query, QueryReply, Registered


def contract_schema() -> dict[str, Any]:
    """A schema (draft 2020-12) whose root is a job, with the other structures of the contract beside it."""
    (job, *_), components = msgspec.json.schema_components(
        [Job, Query, QueryReply, Registered], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "embedq contract, version 1",
        **job,
        "$defs": components,
    }


def render() -> str:
    """The schema as the text of ``docs/job.schema.json``."""
    return json.dumps(contract_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
