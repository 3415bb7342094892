"""How well key frames were found: the metrics of LV-Haystack (arXiv:2504.02259).

G frames are right, P were predicted; as seconds (G,), (P,), or as pictures.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def temporal_scores(right: Tensor, predicted: Tensor, within: float = 5.0) -> Tensor:
    """Precision, recall and F1 (3,) of seconds: a hit is at most `within` seconds off.

    Both sides must hold something; F1 is 0 where precision and recall are.
    """
    near = _distances(right, predicted) <= within
    precision, recall = near.any(0).double().mean(), near.any(1).double().mean()
    both = precision + recall
    return torch.stack([precision, recall, 2 * precision * recall / both.clamp(min=1e-12)])


def nearest_distances(right: Tensor, predicted: Tensor) -> Tensor:
    """The mean seconds from a prediction to the nearest right one, and the other way: (2,)."""
    far = _distances(right, predicted)
    return torch.stack([far.amin(0).mean(), far.amin(1).mean()])


def _distances(right: Tensor, predicted: Tensor) -> Tensor:
    assert len(right), "no right frames: leave the item out"
    assert len(predicted), "no predicted frames: leave the item out"
    return (right.double()[:, None] - predicted.double()).abs()


def ssim(
    first: Tensor,
    second: Tensor,
    layout: Literal["channels", "rows"] = "channels",
    *,
    window: int = 11,
    sigma: float = 1.5,
) -> Tensor:
    """Structural similarity of every picture of (G, H, W, 3) to every one of (P, H, W, 3): (G, P).

    Args:
        first, second: uint8.
        layout: "channels" compares each color; "rows" reproduces the published figures, whose
            code took the rows of a picture for its channels, so that the Gaussian runs over width
            and color.
        window, sigma: of the Gaussian; beyond the border there are zeros.
    """
    order = (0, 3, 1, 2) if layout == "channels" else (0, 1, 2, 3)
    x, y = (value.permute(order).double() / 255 for value in (first, second))
    line = torch.arange(window, dtype=torch.float64, device=x.device) - window // 2
    line = (-(line**2) / (2 * sigma**2)).exp()
    line /= line.sum()

    def blurred(value: Tensor) -> Tensor:  # (n, C, a, b), each channel on its own
        shape = value.shape
        value = value.reshape(-1, 1, *shape[2:])
        value = functional.conv2d(value, line.view(1, 1, -1, 1), padding=(window // 2, 0))
        value = functional.conv2d(value, line.view(1, 1, 1, -1), padding=(0, window // 2))
        return value.view(shape)

    mean_x, mean_y = blurred(x), blurred(y)
    spread_x, spread_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    low, high = 0.01**2, 0.03**2
    rows = []
    for place in range(len(x)):  # one picture against all: the product is not held whole
        both = mean_x[place] * mean_y
        together = blurred(x[place] * y) - both
        top = (2 * both + low) * (2 * together + high)
        bottom = (mean_x[place] ** 2 + mean_y**2 + low) * (spread_x[place] + spread_y + high)
        rows.append((top / bottom).flatten(1).mean(1))
    return torch.stack(rows)


def visual_scores(similarity: Tensor) -> Tensor:
    """Precision and recall (2,) of a (G, P) similarity: the mean of the best of each column, and
    of each row."""
    return torch.stack([similarity.amax(0).mean(), similarity.amax(1).mean()])
