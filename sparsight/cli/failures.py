"""What went wrong, in one line, and the exit code that goes with it."""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from sparsight.cli.text import plain
from sparsight.core.errors import UserError, is_out_of_memory

_MEMORY = (
    "out of memory: look at fewer frames (--frames uniform:4), keep fewer tokens "
    "(--system fastervlm:keep=0.1), or load the model as --dtype bfloat16"
)


def report(error: BaseException, debug: bool) -> int:
    """Print one line about `error` on stderr, with `debug` its traceback too; the exit code."""
    message, code = explained(error)
    with contextlib.suppress(OSError):  # stderr may be closed as well
        if debug and code != 130:
            traceback.print_exception(error)
        if message:
            print(f"sparsight: {plain(message)}", file=sys.stderr)
    return code


def explained(error: BaseException) -> tuple[str, int]:
    """The line and the exit code of a failure."""
    if any(isinstance(item, KeyboardInterrupt) for item in _chain(error)):
        return "stopped", 130
    if isinstance(error, UserError):
        return str(error), 2
    if _is_usage(error):
        return _usage(error), 2
    if is_out_of_memory(error):
        return _MEMORY, 1
    if isinstance(error, BrokenPipeError):
        return "", 1
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}", 1
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return str(error.strerror), 1
    words = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
    return f"internal error: {what} (run again with --debug)", 1


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: libraries wrap a Ctrl-C in their own errors."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _is_usage(error: BaseException) -> bool:
    """Whether typer rejects the command line; where the class lives depends on its version."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sparsight"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see {command} --help"
