from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from sparsight.ops.frame_sizes import (
    Smaller,
    by_adaptive_mean,
    by_bilinear,
    by_merging,
    by_merging_axes,
    by_stride,
)

WAYS = [by_bilinear, by_adaptive_mean, by_stride, by_merging, by_merging_axes]
Way = Callable[[torch.Tensor, int], Smaller]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_a_frame_becomes_as_many_tokens_as_its_shape_says(way: Way, count: int) -> None:
    x = torch.randn(6, 8, 5)
    smaller = way(x, count)
    rows, columns = smaller.shape
    assert rows * columns <= count
    assert smaller.run(x).shape == (rows, columns, 5)
    assert smaller.run(torch.ones(6, 8, 2)).sub(1).abs().max() < 1e-6


@pytest.mark.parametrize(
    "way", [by_bilinear, by_adaptive_mean, by_stride, by_merging_axes], ids=lambda w: w.__name__
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_many_tokens_as_there_are_change_nothing(way: Way, dtype: torch.dtype) -> None:
    x = torch.randn(6, 8, 5).to(dtype)
    assert torch.equal(way(x, 48).run(x).flatten(0, 1), x.flatten(0, 1))


def test_halving_a_side_bilinearly_is_the_pooling_of_llava_video() -> None:
    x = torch.randn(27, 27, 4)
    smaller = by_bilinear(x, 196)
    assert smaller.shape == (14, 14)
    moved = functional.interpolate(x.permute(2, 0, 1)[None], size=[14, 14], mode="bilinear")
    torch.testing.assert_close(smaller.run(x), moved[0].permute(1, 2, 0))


def rounds_by_hand(x: torch.Tensor, count: int) -> torch.Tensor:
    """Merging of (N, D), pair by pair, after the description in the paper."""
    while len(x) > count:
        even, odd = x[::2], x[1::2]
        likeness = functional.normalize(even, dim=1) @ functional.normalize(odd, dim=1).T
        order = likeness.max(1).values.argsort(descending=True).tolist()
        go = order[: min(len(x) - count, len(x) // 2)]
        sums, sizes = odd.clone(), torch.ones(len(odd))
        for place in go:
            to = int(likeness[place].argmax())
            sums[to] += even[place]
            sizes[to] += 1
        left = [place for place in order if place not in go]
        x = torch.cat([even[left], sums / sizes[:, None]])
    return x


def test_merging_goes_round_by_round_and_weighs_every_token_alike() -> None:
    x = torch.randn(8, 8, 3)
    pooled = functional.interpolate(x.permute(2, 0, 1)[None], (4, 4), mode="bilinear")[0]
    want = rounds_by_hand(pooled.permute(1, 2, 0).reshape(16, 3), 3)
    torch.testing.assert_close(by_merging(x, 3).run(x)[0], want)


def test_merging_by_axes_goes_along_rows_then_columns() -> None:
    x = torch.randn(6, 5, 3)
    smaller: Any = by_merging_axes(x, 9)
    rows, columns = smaller.shape
    along = torch.stack([rounds_by_hand(row, columns) for row in x])
    want = torch.stack([rounds_by_hand(along[:, c], rows) for c in range(columns)], 1)
    torch.testing.assert_close(smaller.run(x), want)
