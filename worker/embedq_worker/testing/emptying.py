"""A collection as it was when it was created, so that the next test finds nothing of the last one.

It is not dropped: workers take seconds to see that a collection is another one.
"""

from __future__ import annotations

import time

from psycopg import sql

from embedq.broker import Broker
from embedq_sql import statement, template
from embedq_worker.store.collection import Collection
from embedq_worker.store.dead_letters.listing import Choice, count_chosen, drop_dead_letters
from embedq_worker.store.fleet.backlog import purge, waiting
from embedq_worker.store.postgres.connections import Connection

_IN_HAND_SECONDS = 10.0
_POLL_SECONDS = 0.01


def empty(connection: Connection, broker: Broker, collection: Collection) -> None:
    """Delete a collection's rows, ledger, outbox, messages and dead letters.

    What a worker has in hand is waited for, for 10 seconds: it would be written afterwards.
    """
    connection.execute(statement("forget_contents"), {"collection": collection.id})
    broker.call(lambda client: purge(client, collection.name))
    deadline = time.monotonic() + _IN_HAND_SECONDS
    while broker.call(lambda client: waiting(client, collection.name)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    connection.execute(statement("forget_contents"), {"collection": collection.id})
    connection.execute(sql.SQL(template("empty_table")).format(table=collection.table))
    letters = Choice(collection=collection.name)
    drop_dead_letters(connection, letters, count_chosen(connection, letters)[1])
