"""VidCom2, the video compression commander: frames that stand out keep more of their tokens.

A token is redundant if it lies near the mean of the film and near the mean of its frame. Frames
far from the film's mean are given a larger share of the budget. arXiv:2505.14454, by the rules that
vLLM ships, which repair the number of tokens to be exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.registry import Budget, count_of, knob, system
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import VisualTokens
from sparsight.ops.select import top, top_per_group

WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of the Gaussian kernels
TEMPERATURE = 0.01  # of the softmax over frames


@system(
    "vidcom2",
    title="drop film tokens near the film's and their frame's mean",
    paper="arXiv:2505.14454",
    group="peer",
)
@dataclass(frozen=True)
class VidCom2:
    """Keeps the least redundant tokens of each frame of a film: those farthest (in Gaussian
    kernels, on the half of the channels that vary least) from the mean of the film and of their
    frame. A frame's share grows with its distance from the film's mean and is one token at least;
    then the most redundant tokens of the film go, or the least redundant come back, until the
    number is exact. Kept tokens stay at their positions. Pictures pass
    unchanged."""

    keep: Budget = knob(0.25, "film tokens that stay, as many as frames at least", per="medium")

    def needs(self) -> tuple[Need, ...]:
        return (Need("film"),)

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        if "frame" not in tokens.views.roles or len(candidates) == 0:
            return tokens
        _, frame, sizes = tokens.view[candidates].unique(return_inverse=True, return_counts=True)
        total = len(candidates)
        count = (
            int(total * self.keep) if isinstance(self.keep, float) else count_of(self.keep, total)
        )
        count = max(len(sizes), count)
        if count == total:
            return tokens
        to_film, to_frame = nearness(tokens.embeds[candidates], frame, sizes)
        redundant = to_film + to_frame
        film_mean = (
            torch.zeros_like(sizes, dtype=torch.float32).index_add(0, frame, to_film) / sizes
        )
        share = frame_shares(film_mean, count / total if isinstance(self.keep, int) else self.keep)
        quota = (share * sizes).round().long().clamp_min(1)
        kept = torch.zeros(total, dtype=torch.bool, device=frame.device)
        kept[top_per_group(-redundant, frame, quota)] = True
        missing = count - int(kept.sum())
        if missing < 0:  # the most redundant over the film go
            kept[top(redundant.masked_fill(~kept, -1.0), -missing)] = False
        elif missing > 0:  # the least redundant over the film come back
            kept[top(-redundant.masked_fill(kept, torch.inf), missing)] = True
        return tokens.keep_prunable(candidates[kept])


def nearness(x: Tensor, frame: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """How near each token is to the mean of the film and to that of its frame, (N,) each.

    x (N, C) tokens, frame (N,) long, sizes (T,) tokens of each frame. Nearness is a sum of Gaussian
    kernels of the distance of L2-normalised tokens on the channels of lowest variance.
    """
    x = x.float()
    calm = x.var(0).topk(x.shape[1] // 2, largest=False).indices
    unit = functional.normalize(x[:, calm], dim=-1)
    centre = unit.new_zeros(len(sizes), unit.shape[1]).index_add(0, frame, unit) / sizes[:, None]
    return _kernels(unit - unit.mean(0)), _kernels(unit - centre[frame])


def frame_shares(film_mean: Tensor, keep: float) -> Tensor:
    """The share that each frame keeps, (T,), from its mean nearness to the film (T,)."""
    unlike = -film_mean
    weight = ((unlike - unlike.max()) / TEMPERATURE).softmax(0)
    return (keep * (1 + weight - weight.mean())).clamp(max=1)


def _kernels(difference: Tensor) -> Tensor:
    squared = difference.square().sum(-1)
    return sum(torch.exp(-squared / (2 * width)) for width in WIDTHS)  # type: ignore[return-value]
