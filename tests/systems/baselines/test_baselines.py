from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from tests.systems.conftest import make_map, make_tokens

REQUEST = Request("", torch.zeros(0, 4))
BASELINES = ("random", "uniform", "pool", "downsample")


def reduced(name: str, tokens: VisualTokens, **knobs: object) -> VisualTokens:
    return build(name, knobs).reduce(tokens, REQUEST)


def grid(views: int, height: int, width: int) -> VisualTokens:
    """Views of patches, with a newline behind every view."""
    torch.manual_seed(0)
    features = torch.randn(views, height, width, 3)

    def layout(x: Tensor, newline: Tensor | None) -> Tensor:
        assert newline is not None
        return torch.cat([x.flatten(1, 2), newline.expand(len(x), 1, -1)], 1).flatten(0, 1)

    return pack(make_map(features), layout, torch.zeros(3))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("keep", [1.0, 70])
def test_keeping_everything_changes_nothing(name: str, keep: float | int) -> None:
    tokens = grid(2, 5, 7)
    kept = reduced(name, tokens, keep=keep)
    assert torch.equal(kept.embeds, tokens.embeds)
    assert torch.equal(kept.index, tokens.index)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("keep", [1, 8, 0.1, 0.25, 0.999])
def test_budgets_hold_order_stays_and_separators_stay(name: str, keep: float | int) -> None:
    tokens = grid(2, 4, 6)
    kept = reduced(name, tokens, keep=keep)
    count = int(kept.prunable.sum())
    if name in ("random", "uniform"):
        assert count == (keep if isinstance(keep, int) else round(48 * keep))
    else:  # a grid of cells for each view, of at most as many
        assert 1 <= count <= (keep if isinstance(keep, int) else 2 * round(24 * keep))
    assert kept.index.diff().gt(0).all()
    assert int((~kept.prunable).sum()) == 2


@pytest.mark.parametrize("name", BASELINES)
def test_a_count_above_what_there_is_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="keep=71 is more than the 70 tokens there are"):
        reduced(name, grid(2, 5, 7), keep=71)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("keep", [1, 0.5])
def test_a_single_token_stays(name: str, keep: float | int) -> None:
    assert len(reduced(name, make_tokens(1), keep=keep)) == 1


def test_a_seed_chooses_and_another_chooses_differently() -> None:
    tokens = make_tokens(100)
    first, again, other = (
        reduced("random", tokens, keep=20, seed=seed).index.tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_uniform_takes_equal_strides_with_both_ends() -> None:
    assert reduced("uniform", make_tokens(9), keep=3).index.tolist() == [0, 4, 8]


def test_pooling_averages_neighbours_of_one_view() -> None:
    tokens = grid(2, 4, 6)
    pooled = reduced("pool", tokens, keep=12)
    features = tokens.embeds[tokens.prunable].view(2, 2, 2, 3, 2, 3)
    assert pooled.embeds[pooled.prunable].allclose(features.mean((2, 4)).flatten(0, 2), atol=1e-6)
    assert pooled.weight[pooled.prunable].tolist() == [4.0] * 12
    assert pooled.view[pooled.prunable].tolist() == [0] * 6 + [1] * 6


def test_downsampling_keeps_one_token_of_each_cell_untouched() -> None:
    tokens = grid(1, 4, 6)
    kept = reduced("downsample", tokens, keep=6)
    real = kept.index[kept.prunable]
    assert [(int(i) // 6 // 2, int(i) % 6 // 2) for i in real] == [
        (row, column) for row in range(2) for column in range(3)
    ]
    assert torch.equal(kept.embeds, tokens.embeds[kept.index])
