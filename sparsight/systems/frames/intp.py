"""INTP: more frames for a Video-LLM than it was trained on.

The frames are cut into interleaved sub-clips of the length that the vision tower knows, encoded
apart and put back in time order; the rotary positions of the LLM are stretched so that the longer
prompt stays in range; and a key-value cache in few bits pays for it. arXiv:2409.12963.

RECONSTRUCTED from the abstract and public summaries, no code was found: how frames are split, the
layout of the cache, its groups and its window are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from transformers import Cache

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.core.slots import Request
from sparsight.llm.packed_cache import packed_cache
from sparsight.media.sampling import uniform
from sparsight.ops.rope import base_changed, interpolated
from sparsight.ops.sub_clips import encoding_order, sub_clips

STRETCHES = {"ntk": base_changed, "linear": interpolated}


@system(
    "intp",
    title="several times the usual frames: sub-clips, stretched positions, a cache in few bits",
    paper="arXiv:2409.12963",
    official=("Video-LLaVA, configured for 8 frames, takes 32 without training",),
)
@dataclass(frozen=True)
class INTP:
    """Takes `clips` times `frames` frames, uniformly; a film too short for that is cut into fewer
    sub-clips. With split="strided" each sub-clip spans the film, with "block" each is a part of it.
    Towers that read a film frame by frame, which most do, see no difference; those that read
    two frames as one (the Qwen families) read two of a sub-clip. Where a prompt and its answer need
    more positions than the LLM was trained on, its rotary frequencies are changed before prefill:
    by a larger base (rope="ntk", the highest frequency stays and the lowest is divided) or all
    alike ("linear"). With M-RoPE, time, rows and columns are stretched alike, by what the largest
    position on any of these axes needs. `stretch` fixes the factor. In the cache, `group` tokens
    share a step in each channel of the keys, `group` channels in each token of the values; the last
    `window` tokens stay as they are. A reconstruction, not the authors' code."""

    clips: int = knob(4, "sub-clips of a film", low=1)
    frames: int = knob(0, "frames of a sub-clip; 0 for the checkpoint's usual number", low=0)
    split: Literal["strided", "block"] = knob(
        "strided", "how frames are dealt to sub-clips", choices=("strided", "block")
    )
    rope: Literal["ntk", "linear"] = knob(
        "ntk", "how positions are stretched", choices=tuple(STRETCHES)
    )
    stretch: float = knob(0.0, "factor of the positions, 1 or more; 0 for what is needed", low=0)
    bits: int = knob(2, "bits of a cached number; 16 for a cache as it is", choices=(2, 4, 8, 16))
    group: int = knob(32, "cached numbers that share a step", low=1)
    window: int = knob(128, "most recent tokens that are cached in full precision", low=0)

    def check(self) -> None:
        if 0 < self.stretch < 1:
            raise UserError("intp: stretch must be 1 or more, or 0 for what is needed")

    def select(self, clip: Clip, request: Request) -> list[int]:
        """Frame indices in the order of encoding."""
        each = self.frames or request.frames
        clips = max(1, min(self.clips, len(clip) // each))
        chosen = uniform(len(clip), clips * each)
        order = encoding_order(sub_clips(len(chosen), clips, self.split), request.together)
        return [chosen[place] for place in order.tolist()]

    def frequencies(self, inverse: Tensor, needed: int, trained: int) -> Tensor:
        """Inverse frequencies (A / 2,) for a prompt and answer of `needed` positions."""
        stretch = self.stretch or max(1.0, needed / trained)
        if needed > trained * stretch:
            raise UserError(
                f"intp: {needed} positions are needed, but stretch={stretch:g} makes {trained} "
                f"into {int(trained * stretch)}: raise it, or use fewer frames"
            )
        return inverse if stretch == 1 else STRETCHES[self.rope](inverse, stretch)

    def cache(self, layers: int, padding: Tensor) -> Cache | None:
        """A cache for a batch whose prompts are padded where `padding` (B, L) says."""
        if self.bits == 16:
            return None
        return packed_cache(layers, self.bits, self.group, self.window, padding)
