"""Fixtures for pytest that start embedq whole, for other teams' tests: ``docs/testing.md``.

What needs no worker, the fake API and the producer that records, is in ``embedq.testing``.
"""

from __future__ import annotations
