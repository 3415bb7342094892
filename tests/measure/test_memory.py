"""Key-value bytes and peaks."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM
from transformers.models.qwen2 import Qwen2Config

from sparsight.measure.flops import DecoderShape, decoder_shape
from sparsight.measure.memory import kv_bytes, kv_bytes_per_token, peak_bytes, reset_peak


def test_bytes_a_token_are_the_published_ones():
    assert kv_bytes_per_token(DecoderShape(32, 4096, 32, 32, 128, 11008, 32000)) == 524_288
    assert kv_bytes_per_token(DecoderShape(28, 3584, 28, 4, 128, 18944, 152064)) == 57_344


def test_the_formula_equals_a_real_cache():
    config = Qwen2Config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        num_hidden_layers=3, vocab_size=50,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        cache = model(torch.randint(0, 50, (1, 30))).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    shape = decoder_shape(config)
    assert kv_bytes(shape, [30] * 3, value_bytes=4) == held
    assert kv_bytes_per_token(shape, value_bytes=4) * 30 == held


def test_tokens_dropped_inside_the_llm_take_no_bytes():
    shape = DecoderShape(3, 64, 4, 2, 16, 96, 50)
    assert kv_bytes(shape, [30, 10, 5]) == 2 * 2 * 16 * 2 * 45


def test_the_peak_of_a_process_holds_what_it_once_held():
    before = peak_bytes("cpu")
    block = torch.ones(before // 4 + 16_000_000)
    reset_peak("cpu")
    assert peak_bytes("cpu") >= before + 8_000_000
    assert len(block)
