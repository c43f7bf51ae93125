"""A key that is refused while 10,000 items are queued: none is lost, and later all are embedded."""

from __future__ import annotations

import time

from tests.bench.corpus import texts
from tests.bench.ground import ground
from tests.bench.report import Report

MODEL = "locked"
PROCESSES = 4
KEY = "the-right-key"


def run(report: Report, quick: bool) -> None:
    """Refuse for 20 s, then take the key."""
    count, refused_for = (2_000, 8.0) if quick else (10_000, 20.0)
    with ground(report) as where:
        where.configure({MODEL: {"max_concurrency": 16, "max_inputs": 32}})
        where.create({"docs": MODEL})
        where.environment["EMBEDQ_API_KEY"] = KEY
        where.api.configure(latency=0.1, api_key="another-key")
        where.fill("docs", texts(count))
        with where.workers(PROCESSES):
            where.api.wait_for(calls=1, timeout=30)
            time.sleep(refused_for)
            where.api.configure(api_key=KEY)
            mended, refused = time.monotonic(), where.seen(MODEL).calls
            where.wait_until_stored("docs", count, timeout=180)
            answers = [call.ended or 0.0 for call in where.api.calls(MODEL) if call.status == 200]
        dead = where.sql("SELECT count(*) FROM embedq.dead_letter")[0][0]
        report.add("dead letters", dead, at_most=0)
        report.add("texts stored", where.stored("docs"), at_least=count)
        report.add(f"calls in the {refused_for:.0f} s in which the key was refused", refused)
        report.add(
            "from the mending to the first answer, s", min(answers, default=float("inf")) - mended, "{:.1f}"
        )
