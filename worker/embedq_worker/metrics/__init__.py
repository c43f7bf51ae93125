"""What a worker process counts and measures for Prometheus, a module a subject.

Whoever knows a fact imports its collector and counts there, adding up per job or per call: in the hot path a
series costs about a microsecond. Label values come from closed sets or registered names (models, collections,
lanes), never from a message or from what a service says in prose. ``docs/metrics.md`` describes every one.
"""

from __future__ import annotations
