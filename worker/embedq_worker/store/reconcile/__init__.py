"""Reconciling: a collection held against what it was made from, and what differs enqueued anew.

    source ─┐
            ├─▶ pairs by id ─▶ differences ─▶ less what is on its way or dead ─▶ repairs ─▶ outbox
    ledger ─┘

Both sides are streamed in the order of their ids by one snapshot, so that memory stays flat. Nothing is
locked: a repair's version is the one that was seen and one more, so that whatever changes meanwhile wins.
"""
