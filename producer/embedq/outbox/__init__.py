"""Enqueue in the caller's own database transaction: the job exists if and only if that commits.

>>> import embedq
>>> with connection.transaction():  # psycopg, SQLAlchemy or Django
...     change_product(connection, sku, about)
...     embedq.enqueue_in(connection, "products", id=sku, text=about)

Change the row first and enqueue after it: an item's version is taken when it is enqueued, and should be taken
under the row's lock. ``docs/outbox.md`` says what the promise is.
"""

from __future__ import annotations

from embedq.outbox.enqueueing import delete_in, enqueue_in, enqueue_many_in
from embedq.outbox.methods import OutboxMethods

__all__ = ["OutboxMethods", "delete_in", "enqueue_in", "enqueue_many_in"]
