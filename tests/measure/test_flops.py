"""The formulas against torch's own count, on tiny models of every configuration they know."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM
from transformers.models.clip import CLIPVisionConfig
from transformers.models.internvl import InternVLVisionConfig
from transformers.models.llama import LlamaConfig
from transformers.models.opt import OPTConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLVisionConfig,
)
from transformers.models.qwen3 import Qwen3Config
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionConfig, Qwen3VLVisionModel
from transformers.models.siglip import SiglipVisionConfig
from transformers.models.smolvlm.modeling_smolvlm import (
    SmolVLMVisionConfig,
    SmolVLMVisionTransformer,
)
from transformers.models.video_llama_3.modeling_video_llama_3 import (
    VideoLlama3VisionConfig,
    VideoLlama3VisionModel,
)

from sparsight.core.errors import UserError
from sparsight.measure.flops import (
    DecoderShape,
    budget_for_flops,
    counted_flops,
    decode_flops,
    decoder_shape,
    prefill_flops,
    projector_flops,
    projector_widths,
    tower_flops,
    tower_shape,
)

QWEN2_7B = DecoderShape(28, 3584, 28, 4, 128, 18944, 152064)
VICUNA_7B = DecoderShape(32, 4096, 32, 32, 128, 11008, 32000)


def within_a_percent(formula: float, counted: float) -> bool:
    return abs(formula - counted) <= 0.01 * counted


# The LLM

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "vocab_size": 400}
DECODERS = [
    LlamaConfig(intermediate_size=160, num_hidden_layers=3, **SIZES),
    Qwen2Config(intermediate_size=160, num_hidden_layers=3, num_key_value_heads=2, **SIZES),
    Qwen3Config(
        intermediate_size=160, num_hidden_layers=3, num_key_value_heads=2, head_dim=32, **SIZES
    ),
]


@pytest.fixture(params=DECODERS, ids=lambda config: config.model_type)
def decoder(request: pytest.FixtureRequest) -> Any:
    return AutoModelForCausalLM.from_config(request.param).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("length", [7, 300])
def test_prefill_equals_torchs_count(decoder: Any, length: int, attention: str):
    decoder.set_attn_implementation(attention)
    ids = torch.randint(0, 400, (1, length))
    counted = counted_flops(decoder, ids, logits_to_keep=1, use_cache=True)
    shape = decoder_shape(decoder.config)
    assert within_a_percent(prefill_flops(shape, [length] * shape.layers), counted)


def test_all_logits_cost_what_torch_counts(decoder: Any):
    counted = counted_flops(decoder, torch.randint(0, 400, (1, 50)))
    shape = decoder_shape(decoder.config)
    assert within_a_percent(prefill_flops(shape, [50] * shape.layers, logits=50), counted)


def test_decoding_equals_torchs_count(decoder: Any):
    ids = torch.randint(0, 400, (1, 40))
    shape = decoder_shape(decoder.config)
    with torch.no_grad():
        cache = decoder(ids).past_key_values
    counted = sum(
        counted_flops(decoder, ids[:, :1], past_key_values=cache, use_cache=True) for _ in range(5)
    )
    assert within_a_percent(decode_flops(shape, [40] * shape.layers, 5), counted)


def test_a_layer_without_gate_has_two_matrices():
    config = OPTConfig(
        hidden_size=64, num_attention_heads=4, vocab_size=400, ffn_dim=160, num_hidden_layers=2
    )
    config.intermediate_size = config.ffn_dim
    model = AutoModelForCausalLM.from_config(config).eval()
    counted = counted_flops(model, torch.randint(0, 400, (1, 60)), logits_to_keep=1)
    assert within_a_percent(prefill_flops(decoder_shape(config), [60, 60]), counted)


def test_dropping_inside_the_llm_costs_the_sum_of_the_layers():
    one = DecoderShape(1, 64, 4, 2, 16, 160, 0)
    three = DecoderShape(3, 64, 4, 2, 16, 160, 0)
    alone = sum(prefill_flops(one, [count]) for count in (100, 40, 10))
    assert prefill_flops(three, [100, 40, 10]) == alone


@pytest.mark.parametrize(
    ("shape", "tokens", "tera"),
    [(VICUNA_7B, 64 + 576, 8.40), (VICUNA_7B, 64 + 2880, 40.4), (QWEN2_7B, 64 + 6273, 90.8)],
)
def test_the_causal_half_gives_the_published_figures(shape: DecoderShape, tokens: int, tera: float):
    flops = prefill_flops(shape, [tokens] * shape.layers, causal=True)
    assert flops / 1e12 == pytest.approx(tera, rel=0.01)


def test_parameters_are_those_of_the_checkpoints():
    assert VICUNA_7B.parameters / 1e9 == pytest.approx(6.48, abs=0.005)
    assert QWEN2_7B.parameters / 1e9 == pytest.approx(6.53, abs=0.005)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.05])
def test_the_budget_is_the_largest_that_stays_within_the_share(share: float):
    text, visual = 64, 6273

    def cost(count: int) -> float:
        return prefill_flops(QWEN2_7B, [text + count] * 28)

    kept = budget_for_flops(QWEN2_7B, text, visual, share)
    assert cost(kept) <= share * cost(visual)
    assert kept == visual or cost(kept + 1) > share * cost(visual)


@pytest.mark.parametrize("share", [0.0, -1, 1.5, float("nan"), 0.001])
def test_a_share_that_cannot_be_met_is_refused_with_the_least_one(share: float):
    with pytest.raises(UserError, match="share"):
        budget_for_flops(QWEN2_7B, 64, 576, share)


# Towers: (configuration, class or None for AutoModel, grid of patches)

PLAIN = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 160}
MERGING = {"depth": 3, "num_heads": 4, "patch_size": 14}
TOWERS = [
    (CLIPVisionConfig(**PLAIN, num_hidden_layers=3, image_size=70, patch_size=14), None, (5, 5)),
    (SiglipVisionConfig(**PLAIN, num_hidden_layers=3, image_size=70, patch_size=14), None, (5, 5)),
    (
        SiglipVisionConfig(
            **PLAIN, num_hidden_layers=3, image_size=70, patch_size=14, vision_use_head=False
        ),
        None,
        (5, 5),
    ),
    (
        InternVLVisionConfig(**PLAIN, num_hidden_layers=3, image_size=70, patch_size=14),
        None,
        (5, 5),
    ),
    (
        SmolVLMVisionConfig(**PLAIN, num_hidden_layers=3, image_size=70, patch_size=14),
        SmolVLMVisionTransformer,
        (5, 5),
    ),
    (
        VideoLlama3VisionConfig(**PLAIN, num_hidden_layers=3, patch_size=14),
        VideoLlama3VisionModel,
        (4, 6),
    ),
    (
        Qwen2VLVisionConfig(**MERGING, embed_dim=64, hidden_size=96),
        Qwen2VisionTransformerPretrainedModel,
        (4, 6),
    ),
    (
        Qwen2_5_VLVisionConfig(
            **MERGING,
            hidden_size=64,
            intermediate_size=160,
            out_hidden_size=96,
            window_size=56,
            fullatt_block_indexes=[1],
        ),
        Qwen2_5_VisionTransformerPretrainedModel,
        (10, 6),
    ),
    (
        Qwen3VLVisionConfig(
            **MERGING,
            hidden_size=64,
            intermediate_size=160,
            out_hidden_size=96,
            deepstack_visual_indexes=[0, 1],
        ),
        Qwen3VLVisionModel,
        (4, 6),
    ),
]


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(
    ("config", "cls", "grid"), TOWERS, ids=[str(case[0].model_type) for case in TOWERS]
)
def test_a_tower_costs_what_torch_counts(config: Any, cls: Any, grid: tuple[int, int], views: int):
    model = AutoModel.from_config(config) if cls is None else cls(config)
    shape = tower_shape(config)
    assert shape is not None
    patches = grid[0] * grid[1]
    if shape.merge > 1 or config.model_type == "video_llama_3_vision":
        inputs = {
            "pixel_values" if shape.merge == 1 else "hidden_states": torch.rand(
                views * patches, shape.patch
            ),
            "grid_thw": torch.tensor([[views, *grid]]),
        }
        if shape.merge == 1:
            inputs["merge_sizes"] = torch.tensor([2])
    else:
        inputs = {"pixel_values": torch.rand(views, 3, grid[0] * 14, grid[1] * 14)}
    counted = counted_flops(model.eval(), **inputs)
    tokens = [patches + shape.cls] * shape.layers
    assert within_a_percent(tower_flops(shape, tokens, views, grid), counted)


def test_merging_inside_a_tower_shortens_the_mlp_and_what_follows():
    shape = tower_shape(TOWERS[0][0])
    assert shape is not None
    assert shape.layers == 3
    block = 8 * 64**2, 4 * 64, 4 * 64 * 160  # a token's projections, a pair, a token's MLP
    expected = 2 * 25 * shape.patch * 64
    for before, after in ((26, 20), (20, 14), (14, 14)):
        expected += before * block[0] + before**2 * block[1] + after * block[2]
    assert tower_flops(shape, [26, 20, 14, 14]) == tower_flops(shape, [26, 20, 14]) == expected


def test_a_tower_without_formula_is_none():
    class Convolutional:
        model_type = "timm_wrapper"

    assert tower_shape(Convolutional()) is None


def test_published_towers():
    clip = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        image_size=336, patch_size=14,
    )  # fmt: skip
    shape = tower_shape(clip)
    assert shape is not None
    assert tower_flops(shape, [577] * 24) / 1e12 == pytest.approx(0.38, abs=0.005)
    so400m = SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
        image_size=384, patch_size=14, vision_use_head=False,
    )  # fmt: skip
    shape = tower_shape(so400m)
    assert shape is not None
    assert tower_flops(shape, [729] * 27) / 1e12 == pytest.approx(0.67, abs=0.01)


# Projectors


class Config:
    """A VLM's configuration with the two widths and whatever else a kind needs."""

    def __init__(self, kind: str, **more: Any) -> None:
        self.model_type = kind
        self.vision_config = CLIPVisionConfig(hidden_size=64, num_attention_heads=4)
        self.text_config = Qwen2Config(hidden_size=96, num_attention_heads=4)
        self.__dict__.update(more)


@pytest.mark.parametrize(
    ("config", "widths"),
    [
        (Config("llava"), (64, 96, 96)),
        (Config("llava_onevision", vision_feature_layer=-1), (64, 96, 96)),
        (Config("llava", vision_feature_layer=[-2, -5]), (128, 96, 96)),
        (Config("internvl", downsample_ratio=0.5), (256, 96, 96)),
        (Config("smolvlm", scale_factor=4), (1024, 96)),
        (Config("qwen2_5_vl"), ()),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_projectors_cost_what_torch_counts(config: Config, widths: tuple[int, ...]):
    assert projector_widths(config) == widths
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    counted = counted_flops(nn.Sequential(*layers), torch.rand(25, widths[0])) if widths else 0
    assert projector_flops(widths, 25) == counted


def test_anything_else_is_counted_by_running_it():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    assert counted_flops(conv, torch.rand(1, 3, 10, 10)) == 2 * 3 * 9 * 8 * 100
