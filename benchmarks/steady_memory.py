"""Keep freed memory in the process while timing.

glibc gives large blocks back to the system when they are freed and gets them anew, zeroed page by
page, at the next request: some 40,000 page faults a film here, a tenth of its time, and a number
that changes from request to request. What is compared should not depend on that.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Stop glibc from returning memory to the system; False where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
