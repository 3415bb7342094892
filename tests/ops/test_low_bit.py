from __future__ import annotations

import pytest
import torch

from sparsight.ops.low_bit import dequantize, pack, quantize, unpack


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dim", [1, 2])
def test_no_entry_is_further_off_than_half_a_step(bits: int, dim: int) -> None:
    x = torch.randn(3, 8, 5) * torch.tensor([1.0, 30.0, 0.01])[:, None, None]
    codes, step, low = quantize(x, bits, dim)
    assert step.shape[dim] == low.shape[dim] == 1
    assert codes.max() == 2**bits - 1
    error = (dequantize(codes, step, low) - x).abs()
    assert (error <= step / 2 * (1 + 1e-4)).all()


def test_half_precision_is_off_by_a_rounding_more() -> None:
    x = torch.randn(4, 64, dtype=torch.bfloat16)
    codes, step, low = quantize(x, 4, 1)
    assert step.dtype == low.dtype == torch.bfloat16
    made = dequantize(codes, step, low)
    assert made.dtype == torch.bfloat16
    assert ((made - x).abs() <= 0.6 * step + 2**-7).all()


def test_entries_that_do_not_count_widen_no_range() -> None:
    x, unused = torch.randn(2, 6), torch.zeros(2, 6, dtype=torch.bool)
    alone = quantize(x[:, 2:], 4, 1)
    x[:, :2] = 1000.0
    unused[:, :2] = True
    codes, step, low = quantize(x, 4, 1, unused)
    assert torch.equal(codes[:, 2:], alone[0])
    assert torch.equal(step, alone[1])
    assert torch.equal(low, alone[2])
    _, step, low = quantize(x, 4, 1, torch.ones_like(unused))
    assert step.tolist() == [[1.0]] * 2
    assert low.tolist() == [[0.0]] * 2


def test_a_group_of_equal_entries_is_exact() -> None:
    x = torch.full((1, 4), 3.7)
    assert torch.equal(dequantize(*quantize(x, 2, 1)), x)


@pytest.mark.parametrize(("bits", "bytes_"), [(2, 3), (4, 5), (8, 9)])
def test_codes_take_their_bits_and_come_back(bits: int, bytes_: int) -> None:
    codes = torch.randint(2**bits, (2, 3, 9), dtype=torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (2, 3, bytes_)
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack(packed, bits, 9), codes)
