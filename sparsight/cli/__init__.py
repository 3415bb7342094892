"""Floor 6: the command line. One thin file a command; heavy imports happen inside commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code (the console script `sparsight`)."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; every failure becomes one line on stderr and an exit code.

    0 done, 1 our fault or the machine's, 2 the user's mistake, 130 stopped by Ctrl-C.
    """
    try:
        from sparsight.cli.commands import app

        code = app(list(arguments), prog_name="sparsight", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # typer has caught the Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SystemExit as leaving:  # a reader that closed the pipe: typer has silenced the streams
        return leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:
        from sparsight.cli.failures import report

        return report(error, debug="--debug" in arguments)
