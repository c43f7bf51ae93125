"""What commands open."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from embedq_worker.cli.session import begin_with_redis
begin_with_redis()
for thread in threading.enumerate():
    thread is threading.current_thread() or thread.join()
print("redis.client" in sys.modules, [name for name in sys.modules if name.startswith("opentelemetry")])
import opentelemetry.metrics
"""


def test_redis_is_imported_without_what_measures_it() -> None:
    """Which takes as long to import; whoever wants it afterwards has it."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50)
    assert (ended.stdout, ended.stderr) == ("True []\n", "")
