"""What a medium may cost at most; checked before the cost is paid."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sparsight.core.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Caps on one medium; None switches a cap off.

    bytes: of the file or download. pixels: of one frame. frames: in the film. duration: of the
    film, seconds. decoded_bytes: of the frames of one request. fetch_seconds: for a whole
    download. idle_seconds: without a byte during a download.
    """

    bytes: int | None = 256_000_000
    pixels: int | None = 178_956_970
    # An hour at 25 frames a second; below the 100,000 frames of a file made to hurt.
    frames: int | None = 90_000
    duration: float | None = 4 * 3600.0
    decoded_bytes: int | None = 715_827_880
    fetch_seconds: float | None = 30.0
    idle_seconds: float | None = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise UserError(f"the limit {field.name} must be above 0 or None, not {value}")

    def check(self, name: str, value: float, origin: str, what: str) -> None:
        """Raise `UserError` if `value` is above the limit called `name`; `what` says of what."""
        cap = getattr(self, name)
        if cap is not None and value > cap:
            raise UserError(
                f"{origin}: {what} is above the limit {name}={cap:,}; "
                f"use a smaller one or raise the limit: Limits({name}=...)"
            )
