"""Flower's options, read by ``celery flower --conf=...``.

Without a password Flower would be open to everybody: then it does not start.
"""

from __future__ import annotations

import os
from pathlib import Path

SECRET = Path("/run/secrets/flower/password")

if not SECRET.is_file() or not (password := SECRET.read_text("utf-8").strip()):
    raise SystemExit(
        f"Flower does not start without a password: {SECRET} is missing or empty, run make-secrets"
    )

# A plain Celery application, with Celery's own Redis transport: Flower shows no queues for any other.
os.environ["CELERY_BROKER_URL"] = os.environ["EMBEDQ_BROKER_URL"]

basic_auth = [f"embedq:{password}"]
read_only = True
# Of 100,000, the default, each takes memory for as long as Flower runs.
max_tasks = 10_000
# Seconds after which a stopped worker leaves the list: scaling down is no failure.
purge_offline_workers = 300
