"""The worker service: jobs from Redis, vectors from an API, rows in Postgres."""

from __future__ import annotations
