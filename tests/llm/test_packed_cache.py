from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from sparsight.llm.cache import kv_bytes, kv_tokens
from sparsight.llm.edits import edited
from sparsight.llm.packed_cache import PackedLayer, packed_cache
from tests.llm.tiny import dropping, layout_of, prompt, qwen2


def states(tokens: int, batch: int = 1, width: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 2, tokens, width), torch.randn(batch, 2, tokens, width)


def generate(model: Any, embeds: Tensor, cache: Any, mask: Tensor | None = None, steps: int = 24):
    return model.generate(
        inputs_embeds=embeds,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long) if mask is None else mask,
        past_key_values=cache, max_new_tokens=steps, do_sample=False,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip


def test_the_prompt_is_read_as_it_is_and_the_window_stays() -> None:
    layer = PackedLayer(2, group=4, window=6)
    keys, values = states(21)
    got = layer.update(keys, values)
    assert torch.equal(got[0], keys)
    assert torch.equal(got[1], values)
    assert layer.get_seq_length() == 21
    assert torch.equal(layer.keys[:, :, -6:], keys[:, :, -6:])
    assert torch.equal(layer.values[:, :, -6:], values[:, :, -6:])
    assert not torch.equal(layer.keys[:, :, :15], keys[:, :, :15])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_is_packed_is_off_by_half_a_step_at_most(bits: int) -> None:
    layer = PackedLayer(bits, group=4, window=2)
    keys, values = states(15)
    layer.update(keys, values)  # 13 packed: a short group of one token, then three of four
    old = keys[:, :, 1:13].unflatten(2, (3, 4))
    span = (old.amax(3) - old.amin(3)) / (2**bits - 1)
    error = (layer.keys[:, :, 1:13] - keys[:, :, 1:13]).abs().unflatten(2, (3, 4)).amax(3)
    assert (error <= span / 2 * (1 + 1e-4)).all()
    torch.testing.assert_close(layer.keys[:, :, 0], keys[:, :, 0])
    span = values[:, :, :13].unflatten(3, (2, 4))
    span = (span.amax(4) - span.amin(4)) / (2**bits - 1)
    error = (layer.values - values)[:, :, :13].abs().unflatten(3, (2, 4)).amax(4)
    assert (error <= span / 2 * (1 + 1e-4)).all()


def test_what_is_packed_once_is_not_packed_again() -> None:
    layer = PackedLayer(2, group=4, window=3)
    layer.update(*states(10))
    before = layer.keys, layer.values
    for _ in range(9):
        layer.update(*states(1))
    assert layer.get_seq_length() == 19
    assert torch.equal(layer.keys[:, :, :7], before[0][:, :, :7])
    assert torch.equal(layer.values[:, :, :7], before[1][:, :, :7])
    assert layer.stored_keys["recent"].shape[2] == 3 + 1  # nine are two groups and one


@pytest.mark.parametrize("chunks", [(40,), (11, 29), (1,) * 40, (2, 37, 1)])
def test_the_window_holds_in_whatever_pieces_tokens_come(chunks: tuple[int, ...]) -> None:
    layer = PackedLayer(8, group=4, window=5)
    keys, values = states(40)
    at = 0
    for chunk in chunks:
        got, _ = layer.update(keys[:, :, at : at + chunk], values[:, :, at : at + chunk])
        at += chunk
        assert got.shape[2] == layer.get_seq_length() == at
        assert 5 <= layer.stored_keys["recent"].shape[2] < 9 or at < 9
    torch.testing.assert_close(layer.keys, keys, atol=0.02, rtol=0)
    torch.testing.assert_close(layer.values, values, atol=0.02, rtol=0)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_bytes_are_bits_and_what_they_are_read_with(bits: int, dtype, size: int) -> None:
    cache = packed_cache(1, bits, group=8, window=4)
    keys, values = (x.to(dtype) for x in states(68, batch=3, width=16))
    cache.update(keys, values, 0)
    numbers = 3 * 2 * 64 * 16
    codes = 2 * numbers * bits // 8
    steps = 2 * (numbers // 8) * 2 * size  # a step and a lowest value for every eight
    recent = 2 * 3 * 2 * 4 * 16 * size
    assert kv_bytes(cache) == codes + steps + recent
    assert kv_tokens(cache) == [68]


def test_padding_does_not_change_what_a_row_is_packed_to() -> None:
    padding = torch.zeros(3, 20, dtype=torch.bool)
    padding[0, :7], padding[1, :17] = True, True
    keys, values = states(32, batch=3)
    keys[padding.nonzero()[:, 0], :, padding.nonzero()[:, 1]] = 1000.0
    both = PackedLayer(4, 4, 5, padding)
    alone = [PackedLayer(4, 4, 5, padding[row : row + 1, first:]) for row, first in _first(padding)]
    for start, stop in ((0, 20), *((at, at + 1) for at in range(20, 32))):
        both.update(keys[:, :, start:stop], values[:, :, start:stop])
        for (row, first), layer in zip(_first(padding), alone, strict=True):
            part = slice(max(start, first), stop)
            layer.update(keys[row : row + 1, :, part], values[row : row + 1, :, part])
            assert torch.equal(layer.keys[0], both.keys[row, :, first:])
            assert torch.equal(layer.values[0], both.values[row, :, first:])


def _first(padding: Tensor) -> list[tuple[int, int]]:
    return [(row, int(count)) for row, count in enumerate(padding.sum(1))]


def test_a_width_that_the_group_does_not_divide_is_one_group() -> None:
    layer = PackedLayer(4, group=32, window=0)
    layer.update(*states(40, width=8))
    assert layer.stored_values["step"].shape == (1, 2, 40, 1)
    assert layer.stored_keys["step"].shape == (1, 2, 2, 8)


def test_eight_bits_are_nearly_lossless_and_two_mostly_choose_the_same() -> None:
    model = qwen2()
    embeds = prompt(model, length=60)
    whole = generate(model, embeds, DynamicCache(config=model.config))
    scale = torch.stack(whole.logits).abs().max()
    eight = generate(model, embeds, packed_cache(5, 8, 8, 4))
    assert torch.equal(eight.sequences, whole.sequences)
    for one, two in zip(eight.logits, whole.logits, strict=True):
        assert (one - two).abs().max() < 1e-2 * scale
    # Behind the same words: what each step would choose.
    words = model.model.embed_tokens(whole.sequences)
    cache = packed_cache(5, 2, 8, 4)
    same = []
    with torch.no_grad():
        out = model(inputs_embeds=embeds, past_key_values=cache)
        for place in range(23):
            out = model(inputs_embeds=words[:, place : place + 1], past_key_values=cache)
            same.append(bool(out.logits[0, -1].argmax() == whole.logits[place + 1][0].argmax()))
    assert sum(same) / len(same) > 0.5


def test_a_padded_batch_answers_as_each_row_alone() -> None:
    model = qwen2()
    embeds, mask = prompt(model, 2, 40), torch.ones(2, 40, dtype=torch.long)
    mask[0, :13] = 0
    both = generate(model, embeds, packed_cache(5, 4, 8, 4, mask == 0), mask)
    for row, start in ((0, 13), (1, 0)):
        own = mask[row : row + 1, start:]
        cache = packed_cache(5, 4, 8, 4, own == 0)
        alone = generate(model, embeds[row : row + 1, start:], cache, own)
        assert torch.equal(alone.sequences[0], both.sequences[row])


def test_layers_may_hold_fewer_tokens() -> None:
    model, mask = qwen2(), torch.ones(1, 20, dtype=torch.long)
    cache = packed_cache(5, 8, 4, 2, mask == 0)
    with edited(model.model, [dropping(2)], layout_of(mask)):
        made = generate(model, prompt(model), cache, mask, steps=4)
    assert kv_tokens(made.past_key_values) == [23, 23, 18, 18, 18]
    assert kv_bytes(made.past_key_values) < 2 * 5 * 2 * 18 * 16 * 4


def test_what_transformers_does_to_a_cache_it_does_to_this_one() -> None:
    layer = PackedLayer(8, group=4, window=2)
    keys, values = states(12, batch=2)
    layer.update(keys, values)
    layer.crop(-3)
    layer.batch_select_indices(torch.tensor([1]))
    assert layer.get_seq_length() == 9
    torch.testing.assert_close(layer.keys, keys[1:, :, :9], atol=0.04, rtol=0)
    torch.testing.assert_close(layer.values, values[1:, :, :9], atol=0.04, rtol=0)
    layer.reset()
    assert layer.get_seq_length() == 0
