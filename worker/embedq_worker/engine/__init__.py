"""The engine.

An asyncio thread that turns jobs into rows. Data flows one way: item → batch → vectors → rows.
"""

from __future__ import annotations
