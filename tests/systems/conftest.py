"""Numbers that the papers' official code produced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sparsight.systems
from sparsight.core.tokens import FeatureMap, Views, VisualTokens, feature_map, pack

sparsight.systems.load()

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@pytest.fixture
def golden() -> Callable[[str, str], dict[str, Tensor]]:
    """`golden(folder, case)`: the arrays of one case as tensors, parameters included."""

    def read(folder: str, case: str) -> dict[str, Tensor]:
        with np.load(GOLDEN / folder / f"case-{case}.npz") as file:
            return {name: torch.from_numpy(np.array(file[name])) for name in file.files}

    return read


def make_views(count: int, grid: tuple[int, int], role: str = "frame") -> Views:
    """Whole-picture views, one a second."""
    return Views(
        kind="image",
        inputs={},
        boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(count, 4),
        times=torch.arange(count, dtype=torch.float32),
        roles=(role,) * count,
        grid=grid,
        size=(336, 336),
    )


def make_map(features: Tensor, **signals: Tensor) -> FeatureMap:
    """A feature map of (V, h, w, C) features and (V, h, w, S) signals."""
    views = make_views(len(features), (features.shape[1], features.shape[2]))
    return feature_map(features, views, signals)


def make_rows(
    x: Tensor, projector: Callable[[Tensor], Tensor] | None = None, **signals: Tensor
) -> VisualTokens:
    """Tokens of views (V, N, C), each one row of patches, with (V, N, S) signals."""
    of_patches = {name: value[:, None] for name, value in signals.items()}
    item = replace(make_map(x[:, None]), signals=of_patches, projector=projector)
    return pack(item, lambda x, _: x.flatten(0, 2))


def make_tokens(count: int, width: int = 4, views: int = 1) -> VisualTokens:
    """Random tokens of `views` rows of patches."""
    torch.manual_seed(0)
    features = torch.randn(views, 1, count // views, width)
    return pack(make_map(features), lambda x, _: x.flatten(0, 2))
