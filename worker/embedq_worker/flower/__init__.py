"""Flower, as embedq runs it: behind a password, read-only, with a page that says how queues and models stand.

Flower's other pages are left as they are. What is leaned on, all of flower 2.2, is held by
``tests/integration/test_flower.py`` and ``test_flower_pages.py``: ``flower.app.Flower``,
``flower.events``, ``flower.options``, ``flower.urls``, and the layout of ``base.html``.
"""

from __future__ import annotations
