"""The worker's commands; ``embedq.cli`` finds them by name."""

from __future__ import annotations
