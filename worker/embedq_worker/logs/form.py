"""What a process is told of its logs by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from embedq.errors import ConfigurationError

Form = Literal["human", "json"]
VARIABLE = "EMBEDQ_LOG_FORMAT"
PROCESS_NUMBER = "EMBEDQ_PROCESS_NUMBER"
"""Set by the supervisor for each of its processes: 0, 1, and so on."""


def read_form(environ: Mapping[str, str] = os.environ) -> Form:
    """The form that ``EMBEDQ_LOG_FORMAT`` names, "human" if none. Raises ``ConfigurationError``."""
    said = environ.get(VARIABLE) or "human"
    forms: dict[str, Form] = {"human": "human", "json": "json"}
    if said not in forms:
        raise ConfigurationError(f"{VARIABLE}: expected human or json")
    return forms[said]
