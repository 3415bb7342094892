"""The attention probe: right rows, untouched output, nothing left behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    CLIPVisionConfig,
    CLIPVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.masking_utils import flash_attention_mask

from sparsight.core.errors import UserError
from sparsight.llm.attention import attention_rows, probe
from sparsight.llm.edits import Edit, edited
from sparsight.llm.layout import Layout

from .tiny import Using, decoder_of, layout_of, llama, prompt, qwen2, qwen3vl, qwen25vl

ALL = pytest.mark.parametrize("make", [qwen2, llama, qwen25vl, qwen3vl])
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 4,
}


def padded(batch: int = 2, length: int = 20) -> Tensor:
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[0, :3] = 0
    return mask


def run(model: Any, embeds: Tensor, mask: Tensor, **options: Any) -> Any:
    with torch.no_grad():
        return model(inputs_embeds=embeds, attention_mask=mask, **options)


def eager_maps(model: Any, embeds: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """(B, H, L, L) a layer, from the model's own eager attention."""
    decoder = decoder_of(model)
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    maps = run(model, embeds, mask, output_attentions=True).attentions
    decoder.set_attn_implementation(before)
    return maps


@ALL
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("pad", [False, True])
def test_rows_equal_eager_softmax_and_the_output_is_untouched(
    make: Any, attention: str, pad: bool
) -> None:
    model = make()
    decoder = decoder_of(model)
    decoder.set_attn_implementation(attention)
    embeds = prompt(model, 2)
    mask = padded() if pad else torch.ones(2, 20, dtype=torch.long)
    plain = run(model, embeds, mask).logits
    maps = eager_maps(model, embeds, mask)
    rows = torch.tensor([[5, 19, 7], [19, 4, 11]])
    wanted = {0: rows, 2: "last", -1: "received"}
    with probe(decoder, wanted) as scores:
        probed = run(model, embeds, mask).logits
    assert torch.equal(plain, probed)
    picked = maps[0].gather(2, rows[:, None, :, None].expand(-1, 4, -1, 20))
    torch.testing.assert_close(scores[0], picked, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores[2], maps[2][:, :, -1:], atol=1e-5, rtol=0)
    tokens = mask[:, None, :, None]
    received = (maps[4] * tokens).sum(2, keepdim=True) / tokens.sum(2, keepdim=True)
    torch.testing.assert_close(scores[4], received, atol=1e-5, rtol=0)
    assert scores[0].dtype == torch.float32


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_clip_tower_gives_cls_rows_and_received_attention(attention: str) -> None:
    tower = CLIPVisionModel(CLIPVisionConfig(**SIZES)).eval()
    with torch.no_grad():
        for weight in tower.parameters():
            weight.mul_(4)
    pixels = torch.randn(2, 3, 28, 28)
    tower.set_attn_implementation("eager")
    with torch.no_grad():
        maps = tower(pixels, output_attentions=True).attentions
    tower.set_attn_implementation(attention)
    with torch.no_grad():
        plain = tower(pixels).last_hidden_state
        with probe(tower.encoder, {-2: "cls", 2: "received"}) as scores:
            probed = tower(pixels).last_hidden_state
    assert torch.equal(plain, probed)
    torch.testing.assert_close(scores[1], maps[1][:, :, :1], atol=1e-5, rtol=0)
    torch.testing.assert_close(scores[2], maps[2].mean(2, keepdim=True), atol=1e-5, rtol=0)


def test_a_siglip_tower_gives_received_attention_and_keys() -> None:
    tower = SiglipVisionModel(SiglipVisionConfig(**SIZES)).eval()
    pixels = torch.randn(2, 3, 28, 28)
    tower.set_attn_implementation("eager")
    with torch.no_grad():
        maps = tower(pixels, output_attentions=True).attentions
    tower.set_attn_implementation("sdpa")
    given = []
    projection = tower.encoder.layers[2].self_attn.k_proj
    hook = projection.register_forward_hook(lambda module, args, output: given.append(output))
    with torch.no_grad():
        plain = tower(pixels).last_hidden_state
        with probe(tower.encoder, {1: "received", 2: "keys"}) as scores:
            probed = tower(pixels).last_hidden_state
    hook.remove()
    assert torch.equal(plain, probed)
    torch.testing.assert_close(scores[1], maps[1].mean(2, keepdim=True), atol=1e-5, rtol=0)
    assert torch.equal(scores[2].transpose(1, 2).flatten(2), given[0])


@pytest.mark.parametrize("make", [qwen2, qwen3vl])
def test_heads_are_put_together_as_asked(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model, 2), padded()
    last = [scores[:, :, -1:] for scores in eager_maps(model, embeds, mask)]
    for heads, right in (
        ("mean", last[1].mean(1)),
        ("max", last[1].amax(1)),
        (lambda scores: scores[:, 2], last[1][:, 2]),
    ):
        with probe(decoder_of(model), {1: "last"}, heads) as scores:
            run(model, embeds, mask)
        torch.testing.assert_close(scores[1], right, atol=1e-5, rtol=0)


def test_a_rows_function_is_given_the_layout_and_may_ask_for_nothing() -> None:
    model = qwen2()
    embeds, mask = prompt(model, 2), padded()
    layout = layout_of(mask)
    seen = []

    def raters(layout: Layout) -> Tensor:
        seen.append(layout)
        return torch.tensor([[18, 19]])

    with probe(model.model, {1: raters, 2: lambda layout: None}, layout=layout) as scores:
        run(model, embeds, mask)
    assert seen == [layout]
    right = eager_maps(model, embeds, mask)[1][:, :, 18:]
    torch.testing.assert_close(scores[1], right, atol=1e-5, rtol=0)
    assert 2 not in scores


def test_decoding_is_read_only_when_asked() -> None:
    model = qwen2()
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False}
    embeds = prompt(model)
    mask = torch.ones(1, 20, dtype=torch.long)
    with probe(model.model, {1: "last"}) as prefill:
        model.generate(inputs_embeds=embeds, attention_mask=mask, **options)
    with probe(model.model, {1: "last"}, decode=True) as every:
        tokens = model.generate(inputs_embeds=embeds, attention_mask=mask, **options)
    assert [scores.shape[-1] for scores in prefill.all[1]] == [20]
    assert [scores.shape[-1] for scores in every.all[1]] == [20, 21, 22, 23]
    said = model.model.embed_tokens(tokens[:, :3])
    longer = torch.cat([embeds, said], 1).detach()
    right = eager_maps(model, longer, torch.ones(1, 23, dtype=torch.long))[1][:, :, -1:]
    torch.testing.assert_close(every[1], right, atol=1e-5, rtol=0)


def fake_flash(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """Takes what Flash attention takes: no mask or a (B, K) one, and its name in the config."""
    assert module.config._attn_implementation == "flash_fake"
    assert mask is None or mask.shape == (len(key), key.shape[2])
    length, keys = query.shape[2], key.shape[2]
    gaps = kwargs.get("position_ids")
    if len(query) == 1 and length > 1 and gaps is not None:
        assert (gaps.diff() == 1).all(), "gaps are taken for packed sequences"
    groups = query.shape[1] // key.shape[1]
    seen = torch.ones(length, keys, dtype=torch.bool).tril(keys - length)[None, None]
    if mask is not None:
        seen = (seen & mask[:, None, None]) | torch.eye(length, keys, dtype=torch.bool).roll(
            keys - length, 1
        )
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(groups, 1),
        value.repeat_interleave(groups, 1),
        attn_mask=seen,
        scale=kwargs["scaling"],
    )
    return output.transpose(1, 2).contiguous(), None


@pytest.fixture
def flash() -> Any:
    """A stand-in for Flash attention, which needs a GPU."""
    AttentionInterface.register("flash_fake", fake_flash)
    AttentionMaskInterface.register("flash_fake", flash_attention_mask)

    def set_on(model: Any) -> None:
        decoder_of(model).config._attn_implementation_internal = "flash_fake"

    yield set_on
    AttentionInterface._global_mapping.pop("flash_fake")
    AttentionMaskInterface._global_mapping.pop("flash_fake")


@pytest.mark.parametrize("pad", [False, True])
def test_under_flash_the_rows_are_the_same_and_the_kernel_knows_its_name(
    flash: Any, pad: bool
) -> None:
    model = qwen2()
    embeds = prompt(model, 2)
    mask = padded() if pad else torch.ones(2, 20, dtype=torch.long)
    right = eager_maps(model, embeds, mask)[2][:, :, -1:]
    flash(model)
    plain = run(model, embeds, mask).logits
    with probe(model.model, {2: "last"}) as scores:
        assert torch.equal(plain, run(model, embeds, mask).logits)
    torch.testing.assert_close(scores[2], right, atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [qwen2, qwen25vl])
def test_edits_under_flash_equal_edits_under_sdpa(flash: Any, make: Any) -> None:
    model = make()

    def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        assert scores is not None
        best = scores[:, 0].masked_fill(~layout.prunable, 0.0)
        ragged = best > best.amax(1, keepdim=True) / torch.tensor([[50.0], [2.0]])[: len(best)]
        return Edit(~layout.prunable | ragged)

    for mask in (padded(), torch.ones(2, 20, dtype=torch.long), torch.ones(1, 20).long()):
        embeds, layout = prompt(model, len(mask)), layout_of(mask)
        results = []
        for set_on in (lambda m: decoder_of(m).set_attn_implementation("sdpa"), flash):
            set_on(model)
            with edited(decoder_of(model), [Using(2, choose, "last")], layout) as trace:
                results.append(
                    model.generate(
                        inputs_embeds=embeds,
                        attention_mask=mask,
                        max_new_tokens=4,
                        do_sample=False,
                        return_dict_in_generate=True,
                        output_logits=True,
                    )
                )
        assert len(mask) == 1 or len(set(trace.visual[2].tolist())) == 2  # rows differ
        for a, b in zip(results[0].logits, results[1].logits, strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_nested_probes_on_one_decoder_both_read() -> None:
    model = qwen2()
    embeds, mask = prompt(model, 2), padded()
    maps = eager_maps(model, embeds, mask)
    with probe(model.model, {1: "last", 2: "last"}) as outer:
        with probe(model.model, {2: "cls"}) as inner:
            run(model, embeds, mask)
        run(model, embeds[:1], mask[:1])
    assert [len(outer.all[layer]) for layer in (1, 2)] == [2, 2]
    assert len(inner.all[2]) == 1
    torch.testing.assert_close(outer.all[2][0], maps[2][:, :, -1:], atol=1e-5, rtol=0)
    assert inner[2][1, :, 0, 0].tolist() == [1.0] * 4


def test_the_attention_implementation_comes_back_after_an_exception() -> None:
    model = qwen2()
    config = model.config
    embeds, mask = prompt(model, 2), padded()

    def broken(layout: Layout) -> Tensor:
        raise RuntimeError("broken rule")

    with (
        pytest.raises(RuntimeError, match="broken rule"),
        probe(model.model, {1: "last", 3: broken}),
    ):
        run(model, embeds, mask)
    assert all(layer.self_attn.config is config for layer in model.model.layers)
    assert config._attn_implementation == "sdpa"
    assert "sparsight_original" not in config.__dict__


def test_another_thread_is_not_read_and_gets_the_plain_output() -> None:
    model = qwen2()
    embeds, mask = prompt(model, 2), padded()
    plain = run(model, embeds, mask).logits
    results: list[Tensor] = []
    with probe(model.model, {1: "last"}) as scores:
        other = threading.Thread(target=lambda: results.append(run(model, embeds, mask).logits))
        other.start()
        other.join()
        assert 1 not in scores
    assert torch.equal(results[0], plain)


def test_probes_in_many_threads_read_their_own_runs() -> None:
    model = qwen2()
    embeds, mask = prompt(model, 4), torch.ones(4, 20, dtype=torch.long)
    right = eager_maps(model, embeds, mask)[1][:, :, -1:]
    results: dict[int, Tensor] = {}

    def work(row: int) -> None:
        for _ in range(5):
            with probe(model.model, {1: "last"}) as scores:
                run(model, embeds[row : row + 1], mask[:1])
            assert len(scores.all[1]) == 1
            results[row] = scores[1]

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in range(4):
        torch.testing.assert_close(results[row][0], right[row], atol=1e-5, rtol=0)
    assert model.model.layers[1].self_attn.config is model.config


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [({9: "last"}, "no layer 9"), ({1: "first"}, "unknown attention rows 'first'")],
)
def test_a_wrong_layer_or_rule_is_named(rows: Any, complaint: str) -> None:
    model = qwen2()
    with pytest.raises(UserError, match=complaint), probe(model.model, rows):
        run(model, prompt(model, 2), padded())


def test_scores_of_a_layer_that_did_not_run_are_refused() -> None:
    model = qwen2()
    with (
        probe(model.model, {1: "last"}) as scores,
        pytest.raises(UserError, match="layer 1 gave no attention scores"),
    ):
        scores[1]


def test_a_module_without_layers_is_refused() -> None:
    model = qwen2()
    with pytest.raises(UserError, match="no list of layers"), probe(model.lm_head, {1: "last"}):
        pass


def test_windows_and_softcaps_are_respected() -> None:
    query, key = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 12, 8)
    rows = torch.tensor([[0, 5, 8]])
    got = attention_rows(query, key, rows, 0.3, causal=True, window=4, softcap=2.0)
    logits = 2.0 * torch.tanh(query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.3 / 2.0)
    own = torch.arange(9)[:, None] + 3
    seen = (torch.arange(12) <= own) & (torch.arange(12) > own - 4)
    right = logits.masked_fill(~seen, float("-inf")).softmax(-1)[:, :, rows[0]]
    torch.testing.assert_close(got, right, atol=1e-6, rtol=0)


def test_bfloat16_scores_are_float32_and_sum_to_one() -> None:
    model = qwen2().to(torch.bfloat16)
    embeds, mask = prompt(model, 2), padded()
    plain = run(model, embeds, mask).logits
    with probe(model.model, {1: "last"}) as scores:
        assert torch.equal(run(model, embeds, mask).logits, plain)
    assert scores[1].dtype == torch.float32
    torch.testing.assert_close(scores[1].sum(-1), torch.ones(2, 4, 1))
