"""Failures of a training, as errors that say what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from sparsight.core.errors import UserError


class NotFiniteError(UserError):
    """A loss or a weight became infinite or NaN."""


def full_disk(error: Exception, what: str, good: Path | None) -> Exception:
    """The error of a write that failed: for a full disk an `OSError` that says what is left,
    else the error itself. Libraries wrap the system's error in their own, with its words."""
    words = str(error).lower()
    code = getattr(error, "errno", None)
    if code not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and not any(
        text in words for text in ("no space left", "file too large", "file write failed", "quota")
    ):
        return error
    kept = "there is no earlier one" if good is None else f"the last good one stays: {good}"
    message = f"no space left to write {what} ({kept}); make room and go on with --resume"
    return OSError(errno.ENOSPC, message)
