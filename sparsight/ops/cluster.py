"""Clustering tokens by density peaks (DPC-KNN, doi 10.1016/j.knosys.2016.02.001).

Shapes: B batch, N tokens, C channels, c clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clusters:
    """Clusters of N tokens: `centre` (B, c) their tokens, best first; `label` (B, N) below c."""

    centre: Tensor
    label: Tensor

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each cluster's tokens, (B, N, C) -> (B, c, C), summed in float32."""
        batch, _, channels = x.shape
        index = self.label[..., None].expand(-1, -1, channels)
        zeros = torch.zeros(batch, self.centre.shape[1], channels, device=x.device)
        total = zeros.scatter_add(1, index, x.float())
        return (total / self.sizes[..., None]).to(x.dtype)

    @property
    def sizes(self) -> Tensor:
        """(B, c) tokens of each cluster; a centre belongs to its own, so none is empty."""
        zeros = torch.zeros_like(self.centre)
        return zeros.scatter_add(1, self.label, torch.ones_like(self.label))


def dpc_knn(x: Tensor, count: int, neighbours: int, noise: Tensor | None = None) -> Clusters:
    """Cluster (B, N, C) tokens around `count` centres that are dense and far from denser ones.

    Args:
        count: clusters, at most N.
        neighbours: how many nearest tokens, the token itself among them, make up its density.
        noise: (B, N) added to the densities in millionths, to break ties; None for none: ties then
            go to the lower index.

    Distances are Euclidean over sqrt(C), in float32. The densest token counts as farthest from
    denser ones. Every token goes to its nearest centre, a centre to itself.
    """
    batch, size, channels = x.shape
    distance = distances(x) / channels**0.5
    nearest = distance.topk(min(neighbours, size), dim=-1, largest=False).values
    density = (-nearest.square().mean(-1)).exp()
    if noise is not None:
        density = density + noise * 1e-6
    denser = density[:, None, :] > density[:, :, None]
    farthest = distance.flatten(1).amax(-1)[:, None, None]
    gap = torch.where(denser, distance, farthest).amin(-1)
    order = (gap * density).argsort(dim=-1, descending=True, stable=True)
    centre = order[:, :count]
    to_centre = distance.gather(1, centre[..., None].expand(-1, -1, size))
    label = to_centre.argmin(1)
    label = label.scatter(1, centre, torch.arange(count, device=x.device).expand(batch, -1))
    return Clusters(centre, label)


def distances(x: Tensor) -> Tensor:
    """Euclidean distances between all pairs of (B, N, C) tokens, (B, N, N) float32."""
    # Taken from the mean, so that a large common part does not eat the small differences.
    x = x.float()
    x = x - x.mean(1, keepdim=True)
    norm = x.square().sum(-1)
    squared = norm[:, :, None] + norm[:, None, :] - 2 * (x @ x.transpose(1, 2))
    squared.diagonal(dim1=1, dim2=2).zero_()
    return squared.clamp_min_(0).sqrt_()
