"""The demo: Python's docstrings through the real path, from a queue to answers in SQL."""

from __future__ import annotations
