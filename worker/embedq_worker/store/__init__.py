"""Postgres: the ledger, the rows, the dead letters, and what is said of collections."""

from __future__ import annotations
