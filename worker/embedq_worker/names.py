"""The Redis keys that messages are held under; the headers of the scripts say what is in them."""

from __future__ import annotations

from embedq.contract import UNACKED_KEY

UNACKED = UNACKED_KEY
INDEX = "embedq:unacked_index"
WORKERS = "embedq:workers"
DEAD = "embedq:dead"
TAKEN_OVER = "embedq:taken_over:"
"""Stem, before a process."""
LAST_BEAT = "embedq:last_beat"
AMNESTY = "embedq:amnesty"
ALONE = "embedq:alone"
SUSPECTS = "embedq:suspects"
SUSPECTS_NUMBER = "embedq:suspects_number"
KILLERS = "embedq:killers"
DEATHS = "embedq:deaths"
REPORT = "embedq:worker:"
"""Stem, before a process."""
EPOCH = "embedq:epoch"
"""String: the epoch of ``embedq.broker``; where it is another, or missing, Redis was emptied or restored."""
PACE = "embedq:pace:"
"""Stem, before a minute: how often 60 seconds have gone by since the epoch."""

TAKE_OVER_KEYS = (
    WORKERS,
    DEAD,
    AMNESTY,
    UNACKED,
    INDEX,
    ALONE,
    SUSPECTS,
    SUSPECTS_NUMBER,
    KILLERS,
    DEATHS,
)
"""The keys of ``take_over.lua``."""
