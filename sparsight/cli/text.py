"""Text from elsewhere, made fit for a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """The text without control characters: no file name or answer steers the terminal."""
    return _CONTROL.sub("", text)
