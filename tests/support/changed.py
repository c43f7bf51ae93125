"""The command ``embedq`` with a part of it changed, for what a test needs and the product has no switch for.

    python -m tests.support.changed tests.support.killer:when_taken_in worker --in-hand 10

A change is a function without arguments; several are separated by commas.
"""

from __future__ import annotations

import sys
from importlib import import_module

from embedq.cli import main


def make_changes(names: str) -> None:
    """Make the changes of the running process that ``module:function,module:function`` names."""
    for name in filter(None, names.split(",")):
        module, _, function = name.partition(":")
        getattr(import_module(module), function)()


if __name__ == "__main__":
    make_changes(sys.argv[1])
    main(sys.argv[2:])
