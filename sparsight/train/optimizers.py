"""The optimizers of training: AdamW, and Muon for the matrices that a stage names.

Muon (Jordan et al. 2024, in PyTorch since 2.9) orthogonalizes the momentum of a matrix, so that
all its directions move at one pace. It is for the matrices between hidden states; embeddings,
heads, norms and biases stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import AdamW, Muon, Optimizer


def optimizer(
    groups: Sequence[dict[str, Any]], betas: tuple[float, float], fused: bool
) -> Optimizer:
    """The optimizer of parameter groups; those with a true "muon" go to Muon, at rates on AdamW's
    scale (its steps are scaled to the size of AdamW's)."""
    by_muon = [group for group in groups if group["muon"]]
    rest = [group for group in groups if not group["muon"]]
    parts: list[Optimizer] = []
    if rest:
        parts.append(AdamW(rest, betas=betas, fused=fused))
    if by_muon:
        parts.append(Muon(by_muon, adjust_lr_fn="match_rms_adamw"))
    return parts[0] if len(parts) == 1 else Together(parts)


class Together(Optimizer):
    """Several optimizers that step as one. Their groups, in order, are its groups."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """One list of the very groups that the parts read: a schedule that changes the rate of
        one changes it there."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        assert closure is None, "the parts would each evaluate it"
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()
