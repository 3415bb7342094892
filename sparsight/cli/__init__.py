"""Floor 6: the command line. One thin file a command; heavy imports happen inside commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code (the console script `sparsight`)."""
    from sparsight.cli.running import run

    sys.exit(run(application, sys.argv[1:] if arguments is None else arguments))


def application() -> Any:
    """The typer application with all commands."""
    from sparsight.cli.commands import app

    return app
