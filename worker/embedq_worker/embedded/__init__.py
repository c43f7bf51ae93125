"""Real servers from wheels: Postgres with pgvector, Valkey, and a local embeddings server.

For trying embedq, for its demo and for its tests: no Docker, no key, no network. Production has its own
servers.
"""

from __future__ import annotations
