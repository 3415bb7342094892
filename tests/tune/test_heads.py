"""YOPO's calibration: heads that do not look are found and can be skipped."""

from __future__ import annotations

import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.ops.head_votes import from_pairs
from sparsight.tune.heads import HeadSums, measure, skipped
from sparsight.vlm.pipeline import VLM
from tests.tune.small import films, pictures

LAYERS, SAMPLES, HEADS = 6, 20, 8


def planted(blind: list[tuple[int, int]], spread: float = 0.1) -> HeadSums:
    """Heads that give visual tokens half of their attention, and blind ones that give 2 %."""
    torch.manual_seed(0)
    share = torch.full((LAYERS, SAMPLES, HEADS), 0.5)
    for layer, head in blind:
        share[layer, :, head] = 0.02
    share = share * (1 + spread * (torch.rand(share.shape) - 0.5))
    return HeadSums(share, 1 - share)


def test_planted_blind_heads_are_the_ones_that_are_skipped():
    blind = [(2, 1), (2, 7), (3, 0), (5, 3), (5, 4), (5, 5), (4, 2), (4, 6)]
    found = skipped(planted(blind), keep=1 - 8 / (4 * HEADS))
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert sorted(pairs) == sorted(blind)


@pytest.mark.parametrize("keep", [0.75, 0.5, 0.25])
def test_the_wanted_share_of_heads_looks_and_the_first_layers_keep_all(keep: float):
    looking = from_pairs(skipped(planted([], spread=1.0), keep), LAYERS, HEADS)
    assert looking[:2].all()
    assert looking[2:].float().mean() == pytest.approx(keep, abs=0.04)


def test_a_head_that_looks_in_fewer_than_four_of_ten_samples_is_skipped():
    sums = planted([])
    for layer, head, samples in ((3, 3, 8), (4, 4, 9)):  # 40 % is not more than 40 %
        sums.visual[layer, samples:, head] = 0.01
    found = skipped(HeadSums(sums.visual, 1 - sums.visual), keep=1 - 1 / (4 * HEADS))
    assert found == (3, 3)


def test_keeping_all_heads_skips_none():
    assert skipped(planted([(3, 3)]), keep=1.0) == ()


def test_the_heads_of_a_model_are_measured_and_can_be_skipped(vlm: VLM):
    sums = measure(vlm, [*pictures(3), *films(1)])
    depth = len(vlm.family.decoder.layers)
    heads = vlm.family.decoder.config.num_attention_heads
    assert sums.visual.shape == sums.rest.shape == (depth, 4, heads)
    assert torch.allclose(sums.visual + sums.rest, torch.ones_like(sums.visual), atol=1e-4)
    assert (sums.visual > 0).all()
    fast = vlm.using("yopo", skip=skipped(sums, keep=0.5), alone=False, through=1.0)
    [item] = pictures(1)
    assert fast.ask(item.media[0], item.question, max_tokens=1).tokens


def test_the_model_is_measured_without_systems_inside_it(vlm: VLM):
    with pytest.raises(UserError, match="fastv works inside the LLM"):
        measure(vlm.using("fastv", layer=1), pictures(1))
    with pytest.raises(UserError, match="no questions to measure the heads on"):
        measure(vlm, [])
