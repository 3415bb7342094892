from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsight.ops.rope import base_changed, interpolated

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "rope-scaling" / "case-a.npz"


def usual(width: int = 16, base: float = 10000.0) -> Tensor:
    return base ** (-torch.arange(0, width, 2) / width)


def turned(x: Tensor, positions: Tensor, inverse: Tensor) -> Tensor:
    """x (..., n, A) rotated, halves split."""
    angle = positions[:, None] * torch.cat([inverse, inverse])
    first, second = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-second, first], -1) * angle.sin()


@pytest.mark.parametrize("stretch", [1.5, 4.0, 16.0])
def test_the_highest_frequency_stays_and_the_lowest_is_divided(stretch: float) -> None:
    inverse, wide = usual(128), base_changed(usual(128), stretch)
    assert wide[0] == inverse[0]
    assert wide[-1].item() == pytest.approx(inverse[-1].item() / stretch, rel=1e-6)
    assert torch.allclose(wide, usual(128, 10000.0 * stretch ** (128 / 126)), rtol=1e-5)


def test_far_positions_turn_the_lowest_frequency_no_further_than_those_trained_on() -> None:
    assert base_changed(usual(), 4.0)[-1] * 4 * 512 == pytest.approx(float(usual()[-1]) * 512)


def test_no_stretch_changes_nothing() -> None:
    assert torch.equal(base_changed(usual(), 1.0), usual())
    assert torch.equal(interpolated(usual(), 1.0), usual())
    assert base_changed(torch.ones(1), 2.0).item() == 0.5


@pytest.mark.parametrize("change", [base_changed, interpolated])
def test_scores_depend_on_distances_alone(change) -> None:
    q, k = torch.randn(2, 5, 16, dtype=torch.float64)
    inverse, places = change(usual().double(), 4.0), torch.tensor([0.0, 3.0, 4.0, 40.0, 90.0])
    scores = [
        turned(q, places + shift, inverse) @ turned(k, places + shift, inverse).T
        for shift in (0, 1000)
    ]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=0)


def test_both_are_those_of_the_reference() -> None:
    with np.load(GOLDEN) as file:
        case = {name: torch.from_numpy(np.array(file[name])) for name in file.files}
    factor, length = float(case["p_factor"]), float(case["p_length"])
    inverse, positions = case["out_inv_freq_none"], case["in_positions"][0]
    # The reference's base follows from factor and length together.
    stretch = factor * length / float(case["p_trained_length"]) - (factor - 1)
    wide = base_changed(inverse, stretch)
    torch.testing.assert_close(wide, case["out_inv_freq_dynamic"], atol=1e-5, rtol=1e-5)
    for name, made in (("dynamic", wide), ("linear", interpolated(inverse, factor))):
        for part in "qk":
            got = turned(case[f"in_{part}"], positions, made)
            torch.testing.assert_close(got, case[f"out_{part}_{name}"], atol=1e-5, rtol=1e-4)
