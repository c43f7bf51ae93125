"""Messages in: fetched atomically, held under a tag of this process's own, acknowledged after commit."""

from __future__ import annotations
