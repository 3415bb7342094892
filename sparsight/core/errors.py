"""The one error type for a user's mistake, and how lack of memory is told.

`UserError` is a `ValueError` whose message is one line that names the file or argument and says
how to fix it. The command line prints it and exits with 2; everything else is our fault and
exits with 1.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake the user can fix; `str(error)` is one line naming what and how."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def unknown(kind: str, name: object, allowed: Iterable[str]) -> UserError:
    """A `UserError` for a name that does not exist: says what is allowed, suggests the nearest."""
    choices = sorted(allowed)
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {str(name)!r}{guess} (known: {', '.join(choices) or 'none'})")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or torch's on the CPU."""
    torch = sys.modules.get("torch")  # whose errors cannot come up before it is imported
    known = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, known) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
