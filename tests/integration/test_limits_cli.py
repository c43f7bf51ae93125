"""``embedq limits`` and the models in ``embedq status``: what an operator sees and sets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from embedq.cli import main
from embedq.contract import REGISTRY_KEY
from embedq_worker.limiter import CallOutcome, Flow, Grant, Limits, Want
from embedq_worker.limiter.exchange import Reply, decode_reply, encode_request
from embedq_worker.limiter.keys import mailboxes_key, model_key, settings_key
from embedq_worker.limiter.position import Position
from embedq_worker.limiter.scripts import exchange_script

MODEL = "text-embedding-3-small"
ALIAS = "openai/text-embedding-3-small"
REFUSED = "the embeddings API refuses us (status 401); check EMBEDQ_API_KEY, or the model's api_key_file"
AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def run(broker_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    """The command line with a file, and without a database: limits need none."""
    file = tmp_path / "embedq.toml"
    file.write_text(f'[models."{MODEL}"]\nmax_concurrency = 8\nrequests_per_minute = 3000\n')
    monkeypatch.setenv("EMBEDQ_CONFIG", str(file))
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    return CliRunner()


@pytest.fixture
def run_on_database(run: CliRunner, database_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line with all servers."""
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)
    return run


def embedq(run: CliRunner, *arguments: str, code: int = 0) -> Result:
    """Run a command and hold its exit code."""
    result = run.invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result


def exchange(client: redis.Redis, position: Position) -> tuple[list[Grant], Reply]:
    """What a worker process does when it is due."""
    request = position.compose()
    keys = model_key(position.model), mailboxes_key()
    said = client.eval(exchange_script().text, 2, *keys, encode_request(request))
    reply = decode_reply(said)
    return position.apply(request, reply), reply


def work(client: redis.Redis, model: str = MODEL, calls: int = 3) -> tuple[Position, list[Grant]]:
    """A process that calls a model; its file says 2 at a time."""
    position = Position("p-1", model, Limits(2), lease=30, clock=time.monotonic)
    position.want(Flow("live", "docs"), Want(calls, 100))
    return position, exchange(client, position)[0]


def end(client: redis.Redis, model: str = MODEL, *, outcome: CallOutcome) -> None:
    """One call of a model, and how it ended."""
    position, (grant,) = work(client, model, calls=1)
    position.want(Flow("live", "docs"), Want(0, 0))
    position.end(grant, outcome)
    exchange(client, position)


def test_show_says_what_is_set_where(run: CliRunner, client: redis.Redis) -> None:
    """File and live values are told apart, and what the fleet does is beside them."""
    assert "no model is in use yet" in embedq(run, "limits", "show").output
    embedq(run, "limits", "set", MODEL, "--max-concurrency", "64")
    work(client, calls=70)

    page = embedq(run, "limits", "show").output.splitlines()

    assert page[0] == f"{MODEL}  64 slots; 32 in flight, 0 waiting, processes at work: 1"
    assert [" ".join(line.split()) for line in page[1:]] == [
        "max_concurrency 64 (live; file: 8)",
        "requests_per_minute 3,000 (file)",
        "tokens_per_minute none (file)",
        "concurrency aimd (file)",
        "last minute 32 requests, 3,200 tokens",
        "so far 0 calls, 0 throttled, 0 failed, 0 refused",
    ]


def test_show_as_json(run: CliRunner, client: redis.Redis) -> None:
    """Every field is there, also without state."""
    end(client, outcome=CallOutcome("throttled", why="status 429", cool=5_000))
    embedq(run, "limits", "set", MODEL, "--tokens-per-minute", "1000", "--requests-per-minute", "none")

    (one,) = json.loads(embedq(run, "limits", "show", ALIAS, "--json").output)
    (other,) = json.loads(embedq(run, "limits", "show", "text-embedding-3-large", "--json").output)

    file = {
        "max_concurrency": 8,
        "requests_per_minute": 3000,
        "tokens_per_minute": None,
        "concurrency": "aimd",
    }
    assert f"{MODEL}  1 of 8 slots; " in embedq(run, "limits", "show", MODEL).output
    assert (one["model"], one["file"]) == (MODEL, file)
    assert one["live"]["requests_per_minute"] == 0
    assert one["in_force"] == {**file, "requests_per_minute": None, "tokens_per_minute": 1000}
    assert (one["slots"], one["changed"]["why"]) == (1, "cut from 2: status 429")
    assert one["cooling"]["why"] == "status 429"
    assert other.keys() == one.keys()
    assert (other["slots"], other["changed"], other["paused"]) == (16, None, None)


def test_show_finds_models_of_collections_and_of_other_files(run: CliRunner, client: redis.Redis) -> None:
    """A collection's model without any call yet, and one that only the workers' file has."""
    registered = {"model": "text-embedding-3-large", "dimensions": 8, "versions": "clock"}
    client.hset(REGISTRY_KEY, mapping={"": "1", "docs": json.dumps(registered)})
    end(client, "theirs", outcome=CallOutcome("throttled", why="status 429"))

    models = {each["model"]: each for each in json.loads(embedq(run, "limits", "show", "--json").output)}
    page = embedq(run, "limits", "show", "theirs").output

    assert models.keys() == {"text-embedding-3-large", "theirs"}
    assert (models["theirs"]["file"], models["theirs"]["slots"]) == (None, 1)
    assert page.startswith("theirs  1 slots; ")
    assert "not known here (file)" in page


def test_set_takes_effect_with_the_next_exchange(run: CliRunner, client: redis.Redis) -> None:
    """It says before and after; a running worker has the new limit when it next asks."""
    position, granted = work(client, calls=9)
    said = embedq(run, "limits", "set", ALIAS, "--max-concurrency", "5", "--concurrency", "fixed").output
    position.want(Flow("live", "docs"), Want(7, 100))
    more, _ = exchange(client, position)
    embedq(run, "limits", "set", MODEL, "--reset")
    _, reply = exchange(client, position)

    assert said.splitlines() == [
        f"{MODEL} max_concurrency: 8 (file) → 5 (live; file: 8)",
        f"{MODEL} concurrency: aimd (file) → fixed (live; file: aimd)",
        "each worker heeds it with its next exchange: at once where it is busy, within a second elsewhere",
    ]
    assert (len(granted), len(more), reply.slots) == (2, 3, 2)


def test_none_lifts_a_rate_of_the_file(run: CliRunner, client: redis.Redis) -> None:
    """And --reset along with another limit leaves only that one."""
    lifted = embedq(run, "limits", "set", MODEL, "--requests-per-minute", "none").output
    again = embedq(run, "limits", "set", MODEL, "--requests-per-minute", "none").output
    stored = client.hgetall(settings_key(MODEL))
    other = embedq(run, "limits", "set", MODEL, "--reset", "--max-concurrency", "9").output

    assert f"{MODEL} requests_per_minute: 3,000 (file) → none (live; file: 3,000)" in lifted
    assert "so already" in again
    assert stored == {b"requests_per_minute": b"0"}
    assert "requests_per_minute: none (live; file: 3,000) → 3,000 (file)" in other
    assert client.hgetall(settings_key(MODEL)) == {b"max_concurrency": b"9"}


def test_limits_are_set_under_the_prefix(
    run: CliRunner, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the workers of that installation look."""
    monkeypatch.setenv("EMBEDQ_KEY_PREFIX", "team:")
    said = embedq(run, "limits", "set", MODEL, "--max-concurrency", "9").output

    assert "8 (file) → 9 (live; file: 8)" in said
    assert client.hgetall(settings_key(MODEL, "team:")) == {b"max_concurrency": b"9"}
    assert MODEL in embedq(run, "limits", "show").output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("set", "text-embedding-3-smal", "--max-concurrency", "2"), 1, f"Did you mean '{MODEL}'"),
        (("show", "text-embedding-3-smal"), 1, f"Did you mean '{MODEL}'"),
        (("set", MODEL), 2, "give at least one limit, or --reset"),
        (("set", MODEL, "--max-concurrency", "0"), 2, "--max-concurrency"),
        (("set", MODEL, "--requests-per-minute", "0"), 2, "--requests-per-minute"),
        (("set", MODEL, "--tokens-per-minute", "lots"), 2, "--tokens-per-minute"),
        (("set", MODEL, "--concurrency", "auto"), 2, "--concurrency"),
    ],
)
def test_errors_say_what_to_do(
    run: CliRunner, client: redis.Redis, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """With the exit code of every command, and nothing is set."""
    assert said in embedq(run, "limits", *arguments, code=code).stderr
    assert client.dbsize() == 0


@pytest.mark.parametrize("arguments", [("limits", "show"), ("status",)])
def test_redis_is_away(
    run_on_database: CliRunner, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """One line and exit code 1, also from ``status`` without any collection."""
    monkeypatch.setenv("EMBEDQ_BROKER_URL", AWAY)
    monkeypatch.setattr("embedq.retries.RETRY_SECONDS", 0.1)

    said = embedq(run_on_database, *arguments, code=1).stderr

    assert "did not answer" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", [(), ("show",), ("set",)])
def test_help_has_an_example(run: CliRunner, command: tuple[str, ...]) -> None:
    """How a call looks."""
    assert "Example: embedq limits" in embedq(run, "limits", *command, "--help").output


def test_status_shows_a_paused_model(run_on_database: CliRunner, client: redis.Redis) -> None:
    """Beside its collections too, with the reason, what to do, and when it is tried again."""
    embedq(run_on_database, "collection", "create", "docs", "--model", MODEL)
    embedq(run_on_database, "collection", "create", "notes", "--model", "text-embedding-3-large")
    end(client, outcome=CallOutcome("refused", why=REFUSED))

    found = json.loads(embedq(run_on_database, "status", "--json").output)
    page = embedq(run_on_database, "status").output.splitlines()
    shown = embedq(run_on_database, "limits", "show", MODEL).output

    other, paused = found["models"]
    assert (paused["id"], paused["paused"]["reason"], paused["limit"]) == (MODEL, REFUSED, 8)
    assert 0 < paused["paused"]["next_probe"] <= 2
    assert (other["id"], other["paused"], other["in_flight"]) == ("text-embedding-3-large", None, 0)
    assert page[1] == f"! docs waits: its model {MODEL} is PAUSED, see below"
    (line,) = (line for line in page if line.startswith("  PAUSED for "))
    assert line.endswith(REFUSED)
    assert "one call tries again in" in page[page.index(line) + 1]
    assert not any("PAUSED" in line for line in page if "notes" in line)
    assert REFUSED in shown


def test_status_of_an_empty_redis(run_on_database: CliRunner, client: redis.Redis) -> None:
    """Redis was emptied, or no worker has run yet."""
    embedq(run_on_database, "collection", "create", "docs", "--model", MODEL)
    client.flushall()

    (model,) = json.loads(embedq(run_on_database, "status", "--json").output)["models"]

    assert model == {
        "id": MODEL,
        "slots": 8,
        "limit": 8,
        "in_flight": 0,
        "waiting": 0,
        "processes": 0,
        "paused": None,
        "cooling": None,
        "held": None,
        "changed": None,
    }
    assert f"model {MODEL}  8 slots (file); 0 in flight" in embedq(run_on_database, "status").output
