"""``python -m embedq.cli``: the same as the command ``embedq``."""

from __future__ import annotations

from embedq.cli import main

main()
