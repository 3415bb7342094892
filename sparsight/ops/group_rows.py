"""Members of groups side by side, so that groups of a size are worked on at once."""

from __future__ import annotations

import torch
from torch import Tensor


def group_rows(group: Tensor, members: Tensor) -> list[Tensor]:
    """The members of each group as rows, one tensor (G, n) for all groups that have n of them.

    Args:
        group: (N,) long, the group of each token.
        members: (M,) long, ascending: the tokens that count.

    Rows hold indices into `group`, ascending; groups of a size follow their numbers, sizes the
    first group that has them.
    """
    _, number = group[members].unique(return_inverse=True)
    sizes = number.bincount().tolist()
    parts = members[number.argsort(stable=True)].split(sizes)
    return [
        torch.stack([part for part in parts if len(part) == size]) for size in dict.fromkeys(sizes)
    ]
