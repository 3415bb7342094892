"""What one item asked under one plan gave, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Record:
    """One item asked under one plan.

    score, right   of the reply, by the item's scorer; a failure is wrong
    visual_seen    visual tokens before any reduction
    visual_kept    visual tokens that enter the LLM
    visual_mean    visual tokens averaged over the LLM's layers
    flops          operations by formula: "tower", "prefill", "decode", and "select" where a
                   system asks a model which frames to look at
    kv_bytes       bytes of the key-value cache at the end
    stages         seconds of each stage, as `sparsight.core.reply.Timing` has them
    first_token    seconds from the start to the first token
    total          seconds of the whole
    own            seconds that the systems themselves took: choosing frames, reducing, edits
                   between the layers; part of the stages above
    memory         peak bytes of the device (or, on a CPU, of the process) while it was asked,
                   above what stood before
    error          why it failed, in one line; None: it did not
    """

    item: str
    task: str
    reply: str = ""
    score: float = 0.0
    right: bool = False
    visual_seen: int = 0
    visual_kept: int = 0
    visual_mean: float = 0.0
    flops: dict[str, float] = field(default_factory=dict)
    kv_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    first_token: float = 0.0
    total: float = 0.0
    own: float = 0.0
    memory: int = 0
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """What `as_dict` gave. Raises `ValueError` where a field is missing or unknown."""
        names = {item.name for item in fields(cls)}
        if set(values) != names:
            raise ValueError(f"not a record: {sorted(set(values) ^ names)}")
        return cls(**values)
