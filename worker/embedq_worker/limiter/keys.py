"""The Redis keys of the limiter; ``lua/state.lua`` and its neighbours say what is in them."""

from __future__ import annotations


def model_key(model: str, prefix: str = "") -> str:
    """The hash of a model's state, and the stem of its other keys."""
    return f"{prefix}embedq:model:{model}"


def settings_key(model: str, prefix: str = "") -> str:
    """The hash of the limits that were set for the running fleet."""
    return f"{model_key(model, prefix)}:settings"


def mailboxes_key(prefix: str = "") -> str:
    """The stem of the mailboxes."""
    return f"{prefix}embedq:grants:"


def mailbox_key(process: str, prefix: str = "") -> str:
    """The list of the slots handed over to a process."""
    return mailboxes_key(prefix) + process
