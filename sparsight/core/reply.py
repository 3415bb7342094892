"""What a request gives back: the answer and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Usage:
    """Tokens of a request.

    visual_seen    visual tokens before any reduction
    visual_kept    visual tokens that enter the LLM
    visual_mean    visual tokens averaged over the LLM's layers
    prompt         tokens of the prompt as it enters the LLM, text and visual
    answer         tokens generated
    """

    visual_seen: int
    visual_kept: int
    visual_mean: float
    prompt: int
    answer: int


@dataclass(frozen=True)
class Timing:
    """Seconds of each stage, each ended by a device synchronisation.

    `stages` maps fetch, decode, preprocess, encode, connect+reduce and prefill to seconds, and
    select where a system chooses the frames, with all that it asks a model and decodes for that;
    `steps` has one entry a decode step; `first_token` is from the start to the first token.
    `own` is what the systems took for themselves within the stages: choosing frames, reducing,
    reading attention rows, merging in the tower, editing between layers.
    """

    stages: dict[str, float]
    steps: tuple[float, ...]
    first_token: float
    total: float
    own: float = 0.0


@dataclass(frozen=True)
class Flops:
    """Floating-point operations by formula: the vision tower, the LLM's prefill, its decode.

    `select` is what systems asked a model while they chose frames; a detector of theirs is not
    counted, for want of a formula.
    """

    tower: float
    prefill: float
    decode: float
    select: float = 0.0

    @property
    def total(self) -> float:
        return self.tower + self.prefill + self.decode + self.select


@dataclass(frozen=True)
class TokenMap:
    """Which visual tokens of one medium survived, for drawing and for checking.

    N tokens before reduction; K after it.

    box      (N, 4)  area of each source token in the picture, shares
    view     (N,)    its view, -1 for separators
    time     (N,)    its time in seconds
    role     the role of each view
    kept     (K,)    index of each token that entered the LLM
    kept_box (K, 4)  its area (a merged token covers its members)
    kept_time (K,)   its time
    weight   (K,)    how many source tokens it stands for
    layers   (K,)    how many LLM layers it lived through
    depth    layers of the LLM
    frames   the frame indices the views of a film were made from
    """

    origin: str
    box: Tensor
    view: Tensor
    time: Tensor
    role: tuple[str, ...]
    kept: Tensor
    kept_box: Tensor
    kept_view: Tensor
    kept_time: Tensor
    weight: Tensor
    layers: Tensor
    depth: int
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reply:
    """An answer with its cost. `str(reply)` is the text."""

    text: str
    tokens: tuple[int, ...]
    finish: str  # "stop", "length" or "cancelled"
    usage: Usage
    timing: Timing
    kv_bytes: int
    flops: Flops
    maps: tuple[TokenMap, ...] = field(default=(), repr=False)
    systems: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: everything but the token maps' tensors."""
        return {
            "text": self.text,
            "tokens": list(self.tokens),
            "finish": self.finish,
            "systems": list(self.systems),
            "usage": asdict(self.usage),
            "timing": {
                "stages": self.timing.stages,
                "steps": list(self.timing.steps),
                "first_token": self.timing.first_token,
                "total": self.timing.total,
                "own": self.timing.own,
            },
            "kv_bytes": self.kv_bytes,
            "flops": {**asdict(self.flops), "total": self.flops.total},
            "kept": [item.kept.tolist() for item in self.maps],
        }
