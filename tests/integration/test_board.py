"""What the board of a model says is what the limiter's script did, and reading it changes nothing."""

from __future__ import annotations

import time

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedq_worker.limiter import CallOutcome, Flow, Grant, Limits, Want
from embedq_worker.limiter.board import Counts, ModelBoard, Spent, find_models, read_board, spent_within
from embedq_worker.limiter.exchange import Reply, decode_reply, encode_request
from embedq_worker.limiter.keys import mailboxes_key, model_key, settings_key
from embedq_worker.limiter.live import LiveLimits, set_limits
from embedq_worker.limiter.position import Position
from embedq_worker.limiter.scripts import exchange_script

MODEL = "m"
STEM = model_key(MODEL)
FLOW = Flow("live", "docs")
VIRTUAL_CLOCK = "local function read_clock() return tonumber(redis.call('GET', 'clock')) end"


class Process:
    """A worker process towards one model, one exchange at a time."""

    def __init__(
        self,
        client: redis.Redis,
        limits: Limits,
        name: str = "p-1",
        prefix: str = "",
        clock: str | None = None,
    ) -> None:
        self.position = Position(name, MODEL, limits, lease=30, clock=time.monotonic)
        self._client = client
        self._prefix = prefix
        self._script = exchange_script(clock)

    def exchange(self, calls: int = 0, tokens: int = 100) -> tuple[list[Grant], Reply]:
        """Want so many calls, and see which are granted."""
        self.position.want(FLOW, Want(calls, tokens))
        request = self.position.compose()
        keys = model_key(MODEL, self._prefix), mailboxes_key(self._prefix)
        said = self._client.eval(self._script.text, 2, *keys, encode_request(request))
        reply = decode_reply(said)
        return self.position.apply(request, reply), reply

    def end(self, grant: Grant, outcome: CallOutcome) -> None:
        """Tell how a call ended, and want no other."""
        self.position.end(grant, outcome)
        self.exchange()


def server_time(client: redis.Redis) -> float:
    """Milliseconds by the server's clock."""
    seconds, microseconds = client.time()
    return float(seconds * 1000 + microseconds / 1000)


def test_nothing_is_known(client: redis.Redis) -> None:
    """A model that nobody called has an empty board."""
    assert read_board(client, MODEL) == ModelBoard(
        model=MODEL,
        live=LiveLimits(),
        slots=None,
        ceiling=None,
        changed=None,
        in_flight=0,
        waiting=0,
        processes=0,
        cooling=None,
        paused=None,
        held=None,
        spent=Spent(0, 0),
        counts=Counts(0, 0, 0, 0),
    )


def test_calls_are_counted(client: redis.Redis) -> None:
    """What is held, wanted, spent and done, over two processes; tokens are in the end the service's."""
    first, second = Process(client, Limits(3)), Process(client, Limits(3), "p-2")
    (ended, *_), _ = first.exchange(2)
    second.exchange(5, tokens=10)

    busy = read_board(client, MODEL)
    first.end(ended, CallOutcome("answered", tokens=150))
    later = read_board(client, MODEL)

    assert (busy.in_flight, busy.waiting, busy.processes, busy.spent) == (3, 4, 2, Spent(3, 210))
    assert busy.counts == Counts(0, 0, 0, 0)
    # The freed slot went to the other process.
    assert (later.in_flight, later.waiting, later.spent) == (3, 3, Spent(4, 270))
    assert later.counts == Counts(1, 0, 0, 0)


def test_what_has_lapsed_is_not_counted(client: redis.Redis) -> None:
    """Leases and processes whose time is over stay in Redis until a worker comes by."""
    Process(client, Limits(1)).exchange(3)
    past = server_time(client) - 1
    client.zadd(f"{STEM}:leases", {"p-9/e1.1": past})
    client.zadd(f"{STEM}:processes", {"p-9": past})
    client.hset(f"{STEM}:wants", "live docs p-9", "7 100")

    board = read_board(client, MODEL)

    assert (board.in_flight, board.waiting, board.processes) == (1, 2, 1)


def test_a_cut_and_a_cool_down(client: redis.Redis) -> None:
    """A 429 lowers the slots, says why, and stops all calls for as long as the service asks."""
    process = Process(client, Limits(16))
    (grant,), _ = process.exchange(1)
    process.end(grant, CallOutcome("throttled", why="status 429", cool=7_000))

    board = read_board(client, MODEL)

    assert (board.slots, board.ceiling, board.counts.throttled) == (11, 15, 1)
    assert board.changed is not None
    assert board.changed.why == "cut from 16: status 429"
    assert 0 <= board.changed.seconds_ago < 5
    assert board.cooling is not None
    assert board.cooling.why == "status 429"
    assert 2 < board.cooling.seconds_left <= 7
    assert board.slots_under(Limits(16)) == 11
    assert board.slots_under(Limits(4)) == 4
    assert board.slots_under(Limits(16, concurrency="fixed")) == 16


def test_a_pause_and_its_probe(client: redis.Redis) -> None:
    """The reason, since when, when one call tries again, and that it does."""
    process = Process(client, Limits(16))
    (grant,), _ = process.exchange(1)
    process.end(grant, CallOutcome("refused", why="status 401; check the key"))

    paused = read_board(client, MODEL).paused
    client.hset(STEM, "pause_until", str(server_time(client) - 1))
    due = read_board(client, MODEL).paused
    process.exchange(3)
    board = read_board(client, MODEL)
    client.delete(f"{STEM}:leases")
    alone = read_board(client, MODEL).paused

    assert paused is not None
    assert paused.reason == "status 401; check the key"
    assert paused.seconds < 2
    assert 0 < paused.next_probe <= 2
    assert not paused.is_probing
    assert due is not None
    assert due.next_probe == 0
    assert board.paused is not None
    assert board.paused.is_probing
    assert alone is not None
    assert not alone.is_probing  # its process has died
    assert (board.in_flight, board.waiting, board.counts.refused) == (1, 2, 1)


def test_redis_lost_its_memory(client: redis.Redis) -> None:
    """Nothing is called for the life of a lease, and the board says how long that still is."""
    process = Process(client, Limits(16))
    process.exchange(1)
    born = server_time(client)
    client.flushall()
    while server_time(client) < born + 2:  # a memory has its name by the millisecond
        pass
    process.exchange(1)

    held = read_board(client, MODEL).held

    assert held is not None
    assert 25 < held <= 30


some_ages = st.dictionaries(
    st.integers(0, 300), st.tuples(st.integers(0, 1000), st.integers(0, 10**9)), max_size=20
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages=some_ages, now=st.integers(1_700_000_000_000, 1_700_000_000_500))
def test_spent_is_what_the_script_counts(
    client: redis.Redis, ages: dict[int, tuple[int, int]], now: int
) -> None:
    """Slices that no longer count are left out before the script has removed them; then it says the same."""
    newest = now // 250
    slices = {str(newest - age): f"{requests} {tokens}" for age, (requests, tokens) in ages.items()}
    sums = {
        "first": str(newest - max(ages, default=0)),
        "requests": str(sum(requests for requests, _ in ages.values())),
        "tokens": str(sum(tokens for _, tokens in ages.values())),
    }
    client.flushall()
    client.set("clock", now)
    for name, value in (slices | sums).items():
        client.hset(f"{STEM}:spent", name, value)

    said = spent_within(slices | sums, now, 60)
    Process(client, Limits(1), clock=VIRTUAL_CLOCK).exchange(1)
    requests, tokens = client.hmget(f"{STEM}:spent", ["requests", "tokens"])

    assert (float(requests or 0), float(tokens or 0)) == (said.requests + 1, said.tokens + 100)


def test_reading_writes_nothing(client: redis.Redis) -> None:
    """Not even what has lapsed is removed."""
    process = Process(client, Limits(4))
    (grant, *_), _ = process.exchange(6)
    process.end(grant, CallOutcome("throttled", why="status 429", cool=7_000))
    client.zadd(f"{STEM}:leases", {"p-9/e1.1": 1})
    client.hset(f"{STEM}:spent", "17", "5 500")
    set_limits(client, MODEL, LiveLimits(max_concurrency=3))

    def content() -> dict[object, object]:
        return {key: (client.dump(key), client.pexpiretime(key)) for key in client.scan_iter()}

    before = content()
    read_board(client, MODEL)
    find_models(client)

    assert content() == before


def test_set_limits_win_until_they_are_reset(client: redis.Redis) -> None:
    """The next exchange of a process heeds them, whatever its file says."""
    process = Process(client, Limits(2, requests_per_minute=1))
    set_limits(client, MODEL, LiveLimits(max_concurrency=5, requests_per_minute=0))
    granted, reply = process.exchange(9)
    board = read_board(client, MODEL)
    set_limits(client, MODEL, LiveLimits(max_concurrency=6))
    _, raised = process.exchange(9)
    set_limits(client, MODEL, LiveLimits(), afresh=True)
    _, last = process.exchange(9)

    assert (len(granted), reply.slots) == (5, 5)
    assert board.live == LiveLimits(max_concurrency=5, requests_per_minute=0)
    assert board.live.over(Limits(2, requests_per_minute=1)) == Limits(5)
    assert (raised.slots, last.slots) == (6, 2)
    assert read_board(client, MODEL).live == LiveLimits()


def test_setting_afresh_lets_go_of_the_others(client: redis.Redis) -> None:
    """Without it, what is not named stays."""
    set_limits(client, MODEL, LiveLimits(max_concurrency=5, concurrency="fixed"))
    set_limits(client, MODEL, LiveLimits(tokens_per_minute=1_000))
    kept = read_board(client, MODEL).live
    set_limits(client, MODEL, LiveLimits(max_concurrency=7), afresh=True)

    assert kept == LiveLimits(max_concurrency=5, concurrency="fixed", tokens_per_minute=1_000)
    assert read_board(client, MODEL).live == LiveLimits(max_concurrency=7)


def test_fixed_means_that_nothing_adapts(client: redis.Redis) -> None:
    """Slots from a time when they adapted are not shown."""
    process = Process(client, Limits(16))
    (grant,), _ = process.exchange(1)
    process.end(grant, CallOutcome("throttled", why="status 429"))
    set_limits(client, MODEL, LiveLimits(concurrency="fixed"))

    board = read_board(client, MODEL)

    assert (board.slots, board.ceiling, board.changed) == (None, None, None)


@pytest.mark.parametrize("changes", [LiveLimits(max_concurrency=0), LiveLimits(tokens_per_minute=-1)])
def test_what_no_limit_can_be_is_refused(client: redis.Redis, changes: LiveLimits) -> None:
    """And nothing is set."""
    with pytest.raises(msgspec.ValidationError):
        set_limits(client, MODEL, changes)
    assert not client.exists(settings_key(MODEL))


def test_a_strange_value_does_not_hide_the_board(client: redis.Redis) -> None:
    """Somebody wrote into the hash by hand."""
    client.hset(
        settings_key(MODEL), mapping={"max_concurrency": "many", "colour": "red", "concurrency": "fixed"}
    )

    assert read_board(client, MODEL).live == LiveLimits(concurrency="fixed")


def test_models_are_found_by_their_keys(client: redis.Redis) -> None:
    """Those with state or live limits, whatever their names and the prefix; other keys are none of ours."""
    prefix = "a[b]*\\:"
    Process(client, Limits(1), prefix=prefix).exchange(2)
    set_limits(client, "org/other:latest", LiveLimits(max_concurrency=5), prefix)
    Process(client, Limits(1), prefix="ab:").exchange(2)
    client.hset("embedq:model:without-prefix", "epoch", "e1")
    client.set("embedq:model:text", "not ours")

    assert find_models(client, prefix) == [MODEL, "org/other:latest"]
    assert find_models(client) == ["without-prefix"]
