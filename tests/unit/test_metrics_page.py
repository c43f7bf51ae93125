"""``docs/metrics.md`` has every metric, with its labels and its type, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.metrics import all_metrics

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
ROW = re.compile(r"^\| `(embedq_\w+)(?:\{([\w,]+)\})?` \| (\w+), [^|]+ \| [^|]+ \| [^|]+ \|$", re.MULTILINE)


def test_the_page_has_every_metric_and_no_other() -> None:
    """What nobody wrote down nobody looks at, and a dashboard of what does not exist stays empty."""
    rows = ROW.findall(PAGE.read_text("utf-8"))
    written = {name: (tuple(filter(None, labels.split(","))), kind) for name, labels, kind in rows}
    known = {name: (each.labels, each.type) for name, each in all_metrics().items()}
    known["embedq_build_info"] = (("version",), "gauge")  # an info metric, whose label is in its value
    assert len(rows) == len(written)
    assert written == known
