from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    InternVLVisionConfig,
    InternVLVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from sparsight.measure.flops import counted_flops, tower_flops, tower_shape
from sparsight.modules.towers import TowerMerge, attention_of, can_merge, can_observe, merging
from sparsight.ops.merge import bipartite_matching

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


def clip() -> tuple[nn.Module, list[nn.Module], int]:
    model = CLIPVisionModel(CLIPVisionConfig(**SIZES, image_size=24, patch_size=4))
    return model, list(model.encoder.layers), 1


def siglip() -> tuple[nn.Module, list[nn.Module], int]:
    config = SiglipVisionConfig(**SIZES, image_size=24, patch_size=4, vision_use_head=False)
    model = SiglipVisionModel(config)
    return model, list(model.encoder.layers), 0


def internvl() -> tuple[nn.Module, list[nn.Module], int]:
    config = InternVLVisionConfig(
        **SIZES, image_size=[24, 24], patch_size=[4, 4], use_qk_norm=True, norm_type="rms_norm"
    )
    model = InternVLVisionModel(config)
    for name, weight in model.named_parameters():
        if name.endswith(("lambda_1", "lambda_2")):
            nn.init.uniform_(weight, 0.5, 1.5)
    return model, list(model.encoder.layer), 1


@pytest.fixture(params=[clip, siglip, internvl], ids=lambda made: made.__name__)
def tower(request: pytest.FixtureRequest) -> tuple[nn.Module, list[nn.Module], int]:
    """A small tower with weights that matter, its blocks, and how many CLS tokens it has."""
    torch.manual_seed(0)
    model, blocks, cls = request.param()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(6)
    return model.eval(), blocks, cls


def merge_of(removed: Sequence[int], protected: int, weighted: bool = True) -> TowerMerge:
    return TowerMerge(
        lambda metric, block: bipartite_matching(metric, removed[block], protected),
        removed,
        weighted,
    )


@torch.no_grad()
def run(model: nn.Module, pixels: Tensor) -> Tensor:
    return model(pixels).last_hidden_state


def picture(views: int = 2) -> Tensor:
    return torch.randn(views, 3, 24, 24)


def test_removing_nothing_is_bit_identical(tower: tuple[nn.Module, list[nn.Module], int]) -> None:
    model, blocks, cls = tower
    pixels = picture()
    plain = run(model, pixels)
    merge = merge_of([0, 0, 0], cls)
    with merging(blocks, merge):
        assert torch.equal(run(model, pixels), plain)
    assert merge.counts == [36 + cls] * 3
    assert merge.source is None


def test_no_merging_leaves_the_blocks_alone(tower: tuple[nn.Module, list[nn.Module], int]) -> None:
    _, blocks, _ = tower
    with merging(blocks, None):
        assert not any("forward" in block.__dict__ for block in blocks)


def test_every_patch_is_counted_once(tower: tuple[nn.Module, list[nn.Module], int]) -> None:
    model, blocks, cls = tower
    merge = merge_of([5, 4, 100], cls)
    with merging(blocks, merge):
        out = run(model, picture())
    left = [31 + cls, 27 + cls, 27 + cls - (27 + cls - cls) // 2]
    assert merge.counts == left
    assert out.shape[1] == left[-1]
    assert merge.size is not None
    assert merge.size.sum(1).tolist() == [36.0 + cls] * 2
    assert merge.source is not None
    for view in range(2):
        sizes = merge.source[view].bincount(minlength=left[-1]).float()
        assert torch.equal(sizes, merge.size[view])
    if cls:
        assert (merge.source == 0).sum(1).tolist() == [1, 1]  # CLS went nowhere
        assert (merge.source[:, 0] == 0).all()


def test_restoring_gives_every_patch_the_token_it_went_into(
    tower: tuple[nn.Module, list[nn.Module], int],
) -> None:
    model, blocks, cls = tower
    merge = merge_of([6, 6, 6], cls)
    with merging(blocks, merge):
        out = run(model, picture())
    restored = merge.restore(out)
    assert restored.shape[1] == 36 + cls
    assert merge.source is not None
    for view in range(2):
        for patch, token in enumerate(merge.source[view].tolist()):
            assert torch.equal(restored[view, patch], out[view, token])
    assert merge.restore(out[:, :1], 0) is not None  # before block 0 nothing is merged
    assert merge.sources[0] is None


def without_places(model: nn.Module) -> None:
    """Take the position embeddings away, so that equal patches are equal tokens."""
    for name, weight in model.named_parameters():
        if "position_embedding" in name:
            nn.init.zeros_(weight)


def test_merging_equal_tokens_changes_nothing_when_sizes_weigh(
    tower: tuple[nn.Module, list[nn.Module], int],
) -> None:
    """Proportional attention: a merged token attracts as much as its members did."""
    model, blocks, cls = tower
    without_places(model)
    patch = torch.randn(2, 3, 1, 4, 1, 4).expand(2, 3, 3, 4, 6, 4)  # two kinds of patches
    pixels = torch.cat([patch.reshape(2, 3, 12, 24), torch.randn(1, 3, 1, 4, 1, 4).expand(
        2, 3, 3, 4, 6, 4).reshape(2, 3, 12, 24)], 2)  # fmt: skip
    plain = run(model, pixels)
    outputs = {}
    for weighted in (True, False):
        merge = merge_of([10, 5, 0], cls, weighted)
        with merging(blocks, merge):
            outputs[weighted] = merge.restore(run(model, pixels))
    torch.testing.assert_close(outputs[True], plain, atol=2e-4, rtol=1e-3)
    assert (outputs[False] - plain).abs().max() > 1e-2


def test_blocks_are_themselves_again_after_an_exception(
    tower: tuple[nn.Module, list[nn.Module], int],
) -> None:
    model, blocks, cls = tower
    pixels = picture()
    plain = run(model, pixels)

    def broken(metric: Tensor, block: int) -> Any:
        if block == 1:
            raise RuntimeError("broken on purpose")
        return bipartite_matching(metric, 4, cls)

    with (
        pytest.raises(RuntimeError, match="on purpose"),
        merging(blocks, TowerMerge(broken, [4, 4, 4])),
    ):
        run(model, pixels)
    assert not any("forward" in block.__dict__ for block in blocks)
    assert not any(attention_of(block).k_proj._forward_hooks for block in blocks)
    assert torch.equal(run(model, pixels), plain)


def test_hooks_go_when_a_blocks_own_attention_fails(
    tower: tuple[nn.Module, list[nn.Module], int],
) -> None:
    model, blocks, cls = tower

    def failing(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    hook = attention_of(blocks[1]).q_proj.register_forward_pre_hook(failing)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        merging(blocks, merge_of([4, 4, 4], cls)),
    ):
        run(model, picture())
    hook.remove()
    assert not any(attention_of(block).k_proj._forward_hooks for block in blocks)


def test_operations_fall_as_the_formula_says(
    tower: tuple[nn.Module, list[nn.Module], int],
) -> None:
    model, blocks, cls = tower
    pixels = picture()
    shape = tower_shape(model.config)
    assert shape is not None
    plain = counted_flops(model, pixels)
    with merging(blocks, merge_of([8, 8, 8], cls)):
        merged = counted_flops(model, pixels)
    assert merged < 0.8 * plain
    tokens = [36 + cls - 8 * block for block in range(4)]
    assert merged == pytest.approx(tower_flops(shape, tokens, views=2), rel=0.01)


def test_half_precision_stays_half(tower: tuple[nn.Module, list[nn.Module], int]) -> None:
    model, blocks, cls = tower
    model.bfloat16()
    with merging(blocks, merge_of([8, 8, 8], cls)):
        out = run(model, picture().bfloat16())
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_what_can_be_read_and_merged_is_told_from_the_blocks(
    tower: tuple[nn.Module, list[nn.Module], int],
) -> None:
    _, blocks, _ = tower
    assert can_observe(blocks)
    assert can_merge(blocks)
    assert not can_observe([])
    assert not can_merge([nn.Linear(2, 2)])
    second = "layer_norm2" if hasattr(blocks[0], "layer_norm2") else "layernorm_after"
    del blocks[0]._modules[second]
    assert can_observe(blocks)
    assert not can_merge(blocks)
