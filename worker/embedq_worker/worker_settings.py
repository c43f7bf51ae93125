"""How one worker process works: the table ``[worker]`` of the file that ``EMBEDQ_CONFIG`` names.

Each field says its default, its unit, and what breaks when it is too low or too high.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0, le=60)]
Days = Annotated[float, Meta(gt=0, le=36_500)]
Lease = Annotated[float, Meta(ge=1, le=3_600)]


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[worker]`` of the file: how one worker process works."""

    in_hand: Count = 2_048
    """Messages that a process holds, per queue. Default 2,048. Too low starves the batches of single-item
    messages: no more of them are done in a second than this divided by the seconds that a call and a
    commit take. Too high makes a crash hand back more messages, and takes memory."""

    batch_wait: Wait = 0.010
    """Seconds that the oldest text waits for company while a call could start. Default 0.010. Too low
    makes many small requests; too high delays a lone text by as much."""

    lease: Lease = 30.0
    """Seconds that the right to one concurrent call lives without renewal, and a claim of a text in the
    cache of vectors. Default 30. Too low (below 5) and a process that pauses or misses Redis for a moment
    lets the fleet exceed its limit, or ask for its texts again; too high and a crashed worker's slots and
    texts stay lost for as long."""

    message_lease: Lease = 30.0
    """Seconds within which the messages of a dead worker are taken over. Default 30. Too low (below 5) and a
    process that pauses or misses Redis for a moment is taken for dead, and what it was calling for is billed
    twice; too high and a crash delays what was in hand for as long."""

    drain_time: Seconds = 30.0
    """Seconds for calls in flight to end when the worker stops. Default 30. Too low throws paid answers
    away; too high outlasts the supervisor's patience, which kills. Should exceed a usual call."""

    database_connections: Count = 4
    """Connections to Postgres per process. Default 4. Too low queues the writes of several collections
    behind one another; too high, times processes, exceeds ``max_connections``."""

    database_timeout: Annotated[float, Meta(ge=0.1, le=86_400)] = 60.0
    """Seconds of one statement in Postgres, writing 500 rows at once included. Default 60. Too low, and a
    write that takes longer, as into a big vector index on a slow disk, never ends; too high, and a connection
    over which no answer comes any more holds up the rows for as long."""

    connect_timeout: Seconds = 5.0
    """Seconds to reach the API: name, TCP, TLS. Default 5. Too low fails on slow networks; too high
    holds a slot of the model for a server that is gone."""

    read_timeout: Seconds = 60.0
    """Seconds without a byte from the API. Default 60. Too low gives up calls that are billed all the
    same; too high holds a slot for a call that is dead."""

    request_timeout: Seconds = 120.0
    """Seconds of a whole call, a dripping answer included. Default 120; a longer ``read_timeout``
    has no effect. Too low and too high as there."""

    max_reply_bytes: Count = 64 << 20
    """Bytes of an answer. Default 64 MiB; 2,048 vectors of 3,072 dimensions are 34 MB as base64 and up to
    140 MB as numbers. Too low refuses good answers for ever; too high lets a broken server fill memory."""

    retry_time: Seconds = 60.0
    """Seconds that transient failures of one batch are retried as a whole, or until others are answered and
    it fails twice more; then in halves, so that one text does not hold up its neighbours. Default 60. Too low
    makes many small calls of a bad minute; too high keeps neighbours of a text that breaks the service
    waiting."""

    window_items: Annotated[int, Meta(ge=256)] = 8_192
    """Items in hand per collection, lane and process. Default 8,192; at least a message's 256. Too low
    starves the batches; too high lets a slow model's texts fill the memory. All queues together have eight
    times as much, and then a sixteenth each."""

    window_bytes: Annotated[int, Meta(ge=1 << 20)] = 32 << 20
    """Bytes of text in hand per collection, lane and process. Default 32 MiB; at least a message's 1 MiB.
    Too low, too high and all together as ``window_items``."""

    vector_cache_days: Annotated[int, Meta(ge=0, le=3_650)] = 0
    """Days since its last use after which a vector is forgotten that was kept for equal texts, of any item,
    collection and process. Default 0: none is kept, and equal texts cost one call in each process. Too low
    pays again for texts that come back later; too high fills the database with a second copy of each vector.
    The same in all workers: the lowest forgets, and those without it ask for themselves."""

    dead_letter_text_days: Days = 30.0
    """Days after which the text of a dead letter is removed, counted from when it died last; the letter
    stays. Default 30. Too low and the text is gone before the cause is mended, so that it cannot be
    replayed; too high keeps texts that somebody may have asked to delete. The lowest of the fleet's counts.
    """

    tombstone_days: Days = 30.0
    """Days for which a deleted id is remembered. Default 30. Too low and an older message, or a dead letter
    that is replayed, brings a deleted id back; too high keeps a row of the ledger for each deleted id. Must
    exceed the longest time that a message may wait in a queue, and should not be below
    ``dead_letter_text_days``. The lowest of the fleet's counts."""

    outbox_poll: Annotated[float, Meta(ge=0.02, le=60)] = 0.2
    """Seconds between two looks at the outbox, up to three times as long while nothing is in it. Default 0.2.
    Too low asks Postgres many times a second in each process; too high delays what is enqueued in SQL by as
    much."""

    outbox_queue: Count = 200
    """Messages in a queue, of up to 256 items each, up to which more is sent to it from the outbox. Default
    200. Too low and workers may run out of work between two looks; too high fills the memory of Redis with
    what could wait in Postgres, and has more to send again when Redis was emptied."""

    outbox_resend: Annotated[float, Meta(ge=1, le=2_592_000)] = 3_600.0
    """Seconds after which an item that was sent to Redis, and became nothing since, is sent again, unless
    messages as old still wait in its queue or its model is paused. Default 3,600. Too low sends twice what is
    merely slow; too high, and what a Redis lost in a crash or a failover waits for as long."""

    drift_hours: Annotated[float, Meta(ge=0, le=8_760)] = 6.0
    """Hours after which a model in use is checked for drift again, with a few fixed texts of some 250 tokens.
    Default 6; 0: only when ``embedq drift check`` asks. Too low pays for calls that find nothing; too high,
    and rows of another model are mixed with yours for as long before somebody is told. The lowest of the
    fleet's counts."""

    drift_distance: Annotated[float, Meta(gt=0, le=2)] = 0.001
    """Cosine distance from a model's first vectors up to which nothing drifts. Default 0.001. Too low takes
    the noise of a service for another model; too high overlooks a near relative of the model. The same in all
    workers."""
