"""The JSON Schema and the document of the contract say what the code does."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # its types are a package apart
import msgspec
import pytest

from embedq import contract
from embedq.contract import ENQUEUED_AT_HEADER, MAX_ITEMS, Item, Job, Query, QueryReply, Registered
from embedq.schema import contract_schema, render

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "contract.md").read_text()


def example(title: str) -> Any:
    """The JSON block of the page under a heading."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    block = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return json.loads(block[1])


def test_the_schema_file_is_the_generated_one() -> None:
    """``python -m embedq.schema > docs/job.schema.json`` was run after the last change."""
    assert (DOCS / "job.schema.json").read_text() == render()


def test_the_schema_is_one() -> None:
    """It is valid as a schema, and a job passes where a wrong one does not."""
    schema = contract_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    job = msgspec.to_builtins(Job(1, "docs", [Item("42", "text", 7)]))
    jsonschema.validate(job, schema)

    for broken in ({**job, "v": 2}, {**job, "collection": "Docs"}, {**job, "items": []},
                   {**job, "items": job["items"] * (MAX_ITEMS + 1)}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_the_example_message_is_a_job() -> None:
    """The envelope shown in the document decodes to a job that the contract and the schema take."""
    envelope = example("A message")
    body = base64.b64decode(envelope["body"]) if envelope["properties"]["body_encoding"] == "base64" else b""
    args, kwargs, options = json.loads(body)
    job = msgspec.convert(kwargs["job"], Job)
    for item in job.items:
        contract.check_item(item)
    jsonschema.validate(kwargs["job"], contract_schema())

    assert args == []
    assert set(options) == {"callbacks", "errbacks", "chain", "chord"}
    assert envelope["headers"]["task"] == contract.EMBED_TASK
    assert envelope["headers"]["shadow"] == f"{contract.EMBED_TASK}:{job.collection}"
    assert isinstance(envelope["headers"][ENQUEUED_AT_HEADER], float)
    assert envelope["properties"]["delivery_info"]["routing_key"] == contract.queue_name(job.collection)
    assert example("A job") == kwargs["job"]


def test_the_examples_of_queries_and_registry_are_right() -> None:
    """Query, reply and registry entry decode as the structures they stand for."""
    msgspec.convert(example("Queries"), Query)
    msgspec.convert(example("Replies"), QueryReply)
    msgspec.convert(example("The registry"), Registered)


def test_the_page_names_every_rule() -> None:
    """The table of rules holds exactly the names that the code raises."""
    sources = Path(contract.__file__).parent
    code = "".join(path.read_text() for path in [*sources.glob("*.py"), *(sources / "cli").glob("*.py")])
    raised = set(re.findall(r'"((?:item|id|text|field|version|metadata|deleted|ids)_[a-z_]+)"', code))
    raised |= {f"{what}_{rule}" for what in ("id", "text", "metadata") for rule in ("nul", "not_unicode")}
    table = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.split("\n## Rules\n")[1], re.MULTILINE))

    assert raised == table


def test_the_page_names_keys_and_limits() -> None:
    """Keys, headers and limits of the document are those of the code."""
    names = (contract.REGISTRY_KEY, contract.WAKE_KEY, contract.UNACKED_KEY, contract.reply_key("<task id>"))
    tasks = (contract.EMBED_TASK, contract.QUERY_TASK, contract.ENQUEUED_AT_HEADER, contract.COLLECTION_NAME)
    limits = (
        contract.MAX_ITEMS,
        contract.MAX_ID_LENGTH,
        contract.MAX_METADATA_DEPTH,
        contract.MAX_WAKE_TOKENS,
    )

    for word in (*names, *tasks, *map(str, limits)):
        assert word in PAGE, word
