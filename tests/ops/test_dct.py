from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.ops.dct import dct_matrix, low_frequencies

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(SIZES, SIZES, st.integers(0, 10_000))
def test_what_is_left_has_the_energy_of_the_kept_coefficients(
    size: tuple[int, int], kept: tuple[int, int], seed: int
) -> None:
    grid = (min(size[0], kept[0]), min(size[1], kept[1]))
    x = torch.randn(2, *size, 3, generator=torch.Generator().manual_seed(seed))
    small = low_frequencies(x, grid)
    assert small.shape == (2, *grid, 3)
    rows, columns = dct_matrix(size[0]).float(), dct_matrix(size[1]).float()
    coefficients = torch.einsum("rh,vhwc,sw->vrsc", rows, x, columns)[:, : grid[0], : grid[1]]
    torch.testing.assert_close(small.square().sum(), coefficients.square().sum())


def test_the_matrix_is_orthonormal() -> None:
    for size in (1, 2, 7, 24):
        matrix = dct_matrix(size)
        torch.testing.assert_close(matrix @ matrix.mT, torch.eye(size, dtype=torch.float64))


def test_a_flat_map_stays_flat_and_grows_by_the_root_of_what_is_cut() -> None:
    x = torch.full((1, 6, 8, 2), 3.0)
    torch.testing.assert_close(low_frequencies(x, (3, 4)), torch.full((1, 3, 4, 2), 6.0))
    small = low_frequencies(x, (3, 4), rescale=True)
    torch.testing.assert_close(small, torch.full((1, 3, 4, 2), 3.0))


def test_the_same_size_is_the_identity_bit_for_bit() -> None:
    x = torch.randn(1, 5, 7, 3)
    assert low_frequencies(x, (5, 7)) is x


def test_precision_is_kept_and_gradients_flow() -> None:
    x = torch.randn(1, 4, 4, 2, dtype=torch.bfloat16, requires_grad=True)
    small = low_frequencies(x, (2, 3))
    assert small.dtype == torch.bfloat16
    small.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
