"""Running a command line: every failure becomes one line on stderr and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any


def run(commands: Callable[[], Any], arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    0 done, 1 our fault or the machine's, 2 the user's mistake, 130 stopped by Ctrl-C.

    Args:
        commands: gives the typer application; called here, so that a Ctrl-C while it is
            imported ends as quietly as any other.
    """
    try:
        code = commands()(list(arguments), prog_name="sparsight", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # typer has caught the Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SystemExit as leaving:  # a reader that closed the pipe: typer has silenced the streams
        return leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:
        from sparsight.cli.failures import report

        return report(error, debug="--debug" in arguments)
