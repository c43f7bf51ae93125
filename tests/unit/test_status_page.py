"""The screen of ``embedq status``: on narrow terminals, in pipes, and with what a person must see."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import msgspec
from rich.console import Console

from embedq_worker.cli.snapshot import Snapshot
from embedq_worker.cli.status_fields import Budget, CollectionStatus, Move, Status, WorkerStatus
from embedq_worker.cli.status_page import blind, page
from embedq_worker.store.fleet.reports import Silent


def collection(name: str = "docs", **fields: Any) -> CollectionStatus:
    """One with a backlog."""
    usual: dict[str, Any] = {
        "name": name,
        "model": "text-embedding-3-small",
        "rows": 1_234_567,
        "rows_are_estimated": True,
        "queued": {"query": 0, "live": 1_000, "bulk": 20_000},
        "in_hand": 512,
        "oldest": {"query": None, "live": 12.0, "bulk": 4_000.0},
        "pending_items": 258_144,
        "pending_by": "pace",
        "items_per_second": 250.0,
        "eta": 1_032.6,
        "coverage": 0.8271,
        "move": None,
        "outbox": 0,
        "outbox_oldest": None,
        "watch": None,
        "tokens_today": 1_200_000,
        "cost_today": Decimal("0.024"),
        "dead_letters": 3,
        "has_index": True,
        "wants_index": False,
        "index_advice": [],
    }
    return msgspec.structs.replace(CollectionStatus(**usual), **fields)


def worker(pid: int = 1, version: str = "0.1.0", **fields: Any) -> WorkerStatus:
    """One at work."""
    usual: dict[str, Any] = {
        "host": "worker-7d9f8b6c5-x2x4z",
        "pid": pid,
        "version": version,
        "uptime": 90_000.0,
        "is_stopping": False,
        "messages_in_hand": 256,
        "items_in_hand": 3_072,
        "items_per_second": 125.0,
        "items": 10_000_000,
    }
    return WorkerStatus(**usual | fields)


def snapshot(*collections: CollectionStatus, **fields: Any) -> Snapshot:
    """A whole status; without fields two workers."""
    usual: dict[str, Any] = {
        "models": [],
        "other_dead_letters": 0,
        "workers": [worker(1), worker(2)],
        "silent": [],
        "budgets": [],
    }
    return Snapshot(Status(collections=list(collections), **usual | fields), [])


def shown(found: Snapshot, width: int = 80, rows: int | None = None, *, colours: bool = False) -> str:
    """What is written to a terminal of that width."""
    written = io.StringIO()
    out = Console(
        file=written,
        width=width,
        force_terminal=colours,
        color_system="standard" if colours else None,
        highlight=False,
    )
    out.print(page(found, width, rows))
    return written.getvalue()


def test_a_narrow_terminal_shows_every_figure() -> None:
    """In 80 columns, whatever the name; only the name is broken."""
    found = snapshot(collection(), collection("a_very_long_name_that_somebody_chose_for_it_in_2024"))
    text = shown(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for figure in ("~1,234,567", "82.7 %", "~258,144", "67 min", "250", "17 min", "3"):
        assert figure in text


def test_a_wide_one_shows_money_and_lanes() -> None:
    """Dollars and tokens of today, and messages by lane."""
    text = shown(snapshot(collection()), 160)
    for figure in ("text-embedding-3-small", "1,200,000", "$0.024", "20,000", "1,000", "512"):
        assert figure in text
    assert "no price" in shown(snapshot(collection(cost_today=None)), 160)


def test_colours_are_for_what_needs_a_person() -> None:
    """None where nothing does: bold headings alone."""
    well = snapshot(collection(dead_letters=0))
    assert "\x1b[1;31m" not in shown(well, colours=True)
    assert "\x1b[33m" not in shown(well, colours=True)
    assert "\x1b[33m" in shown(snapshot(collection()), colours=True)
    assert "\x1b[1;31m! no worker" in shown(snapshot(collection(), workers=[]), colours=True)


def test_nobody_works() -> None:
    """Said only where there is work."""
    assert "start `embedq worker`" in shown(snapshot(collection(), workers=[]), 200)
    nothing = collection(queued={"query": 0, "live": 0, "bulk": 0}, in_hand=0, pending_items=0)
    assert "start `embedq worker`" not in shown(snapshot(nothing, workers=[]), 200)


def test_a_version_that_differs_is_pointed_out() -> None:
    """The one that most do not have."""
    text = shown(snapshot(workers=[worker(1), worker(2), worker(3, "0.0.9", is_stopping=True)]))
    assert text.count("differs") == 1
    assert "0.0.9 differs" in text
    assert "(stopping)" in text
    assert "differs" not in shown(snapshot())


def test_who_is_silent() -> None:
    """Dead, or without reports."""
    text = shown(
        snapshot(
            silent=[
                Silent(process="host-1-ab", lease=-4.0, messages=1_024),
                Silent(process="host-2-cd", lease=9.0, messages=0),
            ]
        ),
        200,
    )
    assert "host-1-ab is dead or frozen, with 1,024 messages in its hands" in text
    assert "host-2-cd does not report" in text


def test_a_move_and_a_spent_budget() -> None:
    """How far, and what comes next."""
    move = Move(model="text-embedding-3-large", state="next", unfilled=250, filled=0.75)
    spent = Budget(
        scope="collection",
        name="docs",
        dollars=Decimal(5),
        tokens=None,
        spent_dollars=Decimal("5.01"),
        spent_tokens=9,
        is_spent=True,
    )
    text = shown(snapshot(collection(move=move), budgets=[spent]), 200)
    assert "docs: moves to text-embedding-3-large, 75.0 % filled" in text
    assert "! the budget of collection docs is spent" in text
    assert "$5.01 of $5.00 today" in text


def test_a_share_is_whole_only_when_all_is_there() -> None:
    """One row in a million that lacks a vector is not rounded away."""
    assert "99.9 %" in shown(snapshot(collection(coverage=0.9999999)))
    assert "100 %" in shown(snapshot(collection(coverage=1.0)))


def test_a_short_screen_shows_those_with_work_first() -> None:
    """And says how many are left out."""
    idle = [collection(f"idle{number}", pending_items=0) for number in range(9)]
    text = shown(snapshot(*idle, collection("busy")), rows=3)
    assert "busy" in text
    assert "7 more" in text


def test_what_is_said_of_many_leaves_a_screen_room_for_the_rest() -> None:
    """Alarms are few, and a collection's own lines come last, where the screen ends. Else all are shown."""
    found = snapshot(*(collection(f"c{number}", rows=None) for number in range(200)))
    lines = shown(found, rows=12).splitlines()
    assert len([line for line in lines if line.startswith("! ")]) == 4
    assert "197 more such" in shown(found, rows=12)
    assert next(at for at, line in enumerate(lines) if line.startswith("worker ")) < 24
    assert shown(found).count("is missing; put it back") == 200
    assert shown(found).count("see `embedq dead-letters list") == 200


def test_while_a_server_is_away_the_last_look_stays() -> None:
    """Below why, and since when."""
    written = io.StringIO()
    Console(file=written, width=120).print(blind("Redis is away", 12.0, page(snapshot(collection()), 120)))
    text = written.getvalue()
    assert text.startswith("! Redis is away")
    assert "12 s ago" in text
    assert "~258,144" in text


def test_an_outbox_that_waits_is_told() -> None:
    """With a bound for its rows, and not while they are sent at once."""
    waits = snapshot(collection(outbox=1_000, outbox_oldest=300.0))
    moves = snapshot(collection(outbox=12, outbox_oldest=0.3))
    assert "of 1,000+ rows in the outbox the oldest unsent waits for 5 min" in shown(waits, 200)
    assert "in the outbox" not in shown(moves, 200)


def test_a_watch_that_is_amiss_is_told() -> None:
    """And one that follows is not."""
    assert "docs: does not follow its table (behind); see" in shown(snapshot(collection(watch="behind")), 200)
    assert "follow" not in shown(snapshot(collection(watch="following")), 200)
