"""Edits between decoder layers: equal to recomputing from scratch, ragged, padded, composed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, StaticCache

from sparsight.core.errors import UserError
from sparsight.llm.attention import probe
from sparsight.llm.cache import kv_tokens
from sparsight.llm.edits import Edit, edited
from sparsight.llm.layout import Layout

from .tiny import (
    Using,
    decoder_of,
    dropping,
    fastv,
    from_scratch,
    layout_of,
    llama,
    mrope,
    prompt,
    qwen2,
    qwen3vl,
    qwen25vl,
)

ALL = pytest.mark.parametrize("make", [qwen2, llama, qwen25vl, qwen3vl])
STEPS = 5


def positions_of(model: Any, mask: Tensor) -> Tensor:
    if "vl" in type(model).__name__.lower():
        return mrope(mask)
    return (mask.cumsum(1) - 1).clamp_min(0)


def generate(model: Any, embeds: Tensor, mask: Tensor | None = None, **options: Any) -> Any:
    mask = torch.ones(embeds.shape[:2], dtype=torch.long) if mask is None else mask
    given = {
        "inputs_embeds": embeds,
        "attention_mask": mask,
        "position_ids": positions_of(model, mask),
        "max_new_tokens": STEPS,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    return model.generate(**{**given, **options})


def close(got: Any, row: int, logits: list[Tensor], tokens: list[int]) -> None:
    assert got.sequences[row, -len(tokens) :].tolist() == tokens
    for mine, right in zip(got.logits, logits, strict=True):
        torch.testing.assert_close(mine[row], right, atol=2e-5, rtol=1e-5)


@ALL
def test_keeping_everything_is_bit_identical(make: Any) -> None:
    model = make()
    embeds = prompt(model, 2)
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[0, :3] = 0
    plain = generate(model, embeds, mask)
    with edited(decoder_of(model), [fastv(2, 10), dropping(3, every=1)], layout_of(mask)) as trace:
        same = generate(model, embeds, mask)
    assert torch.equal(plain.sequences, same.sequences)
    assert all(torch.equal(a, b) for a, b in zip(plain.logits, same.logits, strict=True))
    assert trace.tokens.tolist() == [[17, 20]] * 5
    assert trace.cached == [None] * 5


@ALL
def test_fastv_equals_recomputing_from_scratch(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    decoder = decoder_of(model)
    decoder.set_attn_implementation("eager")
    with torch.no_grad():
        whole = model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions_of(model, mask),
            output_attentions=True,
        )
    decoder.set_attn_implementation("sdpa")
    score = whole.attentions[1][0, :, -1].mean(0)
    best = score[4:14].topk(4).indices.sort().values + 4
    kept = torch.cat([torch.arange(4), best, torch.arange(14, 20)])
    with edited(decoder, [fastv(2, 4)], layout_of(mask)) as trace:
        got = generate(model, embeds)
    assert torch.equal(trace.kept(2), kept)
    close(
        got, 0, *from_scratch(model, embeds, positions_of(model, mask)[..., 0, :], {2: kept}, STEPS)
    )
    assert kv_tokens(got.past_key_values) == [24, 24, 18, 18, 18]


@ALL
def test_edits_at_several_layers_compose(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    with edited(decoder_of(model), [dropping(3), dropping(1)], layout_of(mask)) as trace:
        got = generate(model, embeds)
    kept = {
        1: torch.tensor([0, 1, 2, 3, 4, 6, 8, 10, 12, *range(14, 20)]),
        3: torch.tensor([0, 1, 2, 3, 4, 8, 12, *range(14, 20)]),
    }
    assert torch.equal(trace.kept(1), kept[1])
    assert torch.equal(trace.kept(4), kept[3])
    assert trace.visual[:, 0].tolist() == [10, 5, 5, 3, 3]
    assert trace.tokens[:, 0].tolist() == [20, 15, 15, 13, 13]
    close(got, 0, *from_scratch(model, embeds, positions_of(model, mask)[..., 0, :], kept, STEPS))
    assert kv_tokens(got.past_key_values) == [24, 19, 19, 17, 17]


@ALL
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_row_of_a_padded_ragged_batch_equals_the_row_alone(make: Any, attention: str) -> None:
    model = make()
    decoder = decoder_of(model)
    decoder.set_attn_implementation(attention)
    embeds = prompt(model, 3)
    mask = torch.ones(3, 20, dtype=torch.long)
    mask[0, :5] = 0
    mask[2, :1] = 0
    keep = {0: 7, 1: 2, 2: 4}  # visual tokens each row keeps before layer 2, halved before 3

    def choose(rows: list[int]) -> Any:
        def first(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
            assert scores is not None
            columns = []
            for at, row in enumerate(rows):
                score = scores[at, 0].masked_fill(~layout.prunable[at], -1.0)
                text = (~layout.prunable[at] & ~layout.padding[at]).nonzero()[:, 0]
                columns.append(torch.cat([score.topk(keep[row]).indices, text]))
            return Edit(columns)

        return [Using(2, first, "last"), dropping(3)]

    with edited(decoder, choose([0, 1, 2]), layout_of(mask)) as trace:
        together = generate(model, embeds, mask)
    assert trace.tokens.tolist() == [
        [15, 20, 19],
        [15, 20, 19],
        [12, 12, 13],
        [9, 11, 11],
        [9, 11, 11],
    ]
    assert kv_tokens(together.past_key_values) == [24, 24, 17, 15, 15]
    for row in range(3):
        start = int((mask[row] == 0).sum())
        one, alone_mask = embeds[row : row + 1, start:], mask[row : row + 1, start:]
        with edited(decoder, choose([row]), layout_of(alone_mask)) as alone_trace:
            alone = generate(model, one, alone_mask)
        assert torch.equal(together.sequences[row], alone.sequences[0])
        for a, b in zip(together.logits, alone.logits, strict=True):
            torch.testing.assert_close(a[row], b[0], atol=2e-5, rtol=1e-5)
        assert torch.equal(trace.kept(4, row) - start, alone_trace.kept(4))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_that_keep_different_counts_without_padding_equal_the_rows_alone(
    attention: str,
) -> None:
    model = qwen2()
    model.set_attn_implementation(attention)
    embeds, mask = prompt(model, 2), torch.ones(2, 20, dtype=torch.long)

    def choose(counts: list[int]) -> Using:
        def edit(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
            rank = layout.prunable.long().cumsum(1)
            return Edit(~layout.prunable | (rank <= torch.tensor(counts)[:, None]))

        return Using(1, edit)

    with edited(model.model, [choose([9, 1])], layout_of(mask)):
        together = generate(model, embeds)
    assert kv_tokens(together.past_key_values)[1] == 23
    for row, count in enumerate([9, 1]):
        with edited(model.model, [choose([count])], layout_of(mask[:1])):
            alone = generate(model, embeds[row : row + 1])
        assert torch.equal(together.sequences[row], alone.sequences[0])
        for a, b in zip(together.logits, alone.logits, strict=True):
            torch.testing.assert_close(a[row], b[0], atol=2e-5, rtol=1e-5)


@ALL
def test_renumbered_tokens_stand_without_gaps_from_the_layer_on(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    with edited(decoder_of(model), [dropping(2, positions="renumber")], layout_of(mask)) as trace:
        got = generate(model, embeds)
    kept = {2: torch.tensor([0, 1, 2, 3, 4, 6, 8, 10, 12, *range(14, 20)])}
    right = from_scratch(
        model, embeds, positions_of(model, mask)[..., 0, :], kept, STEPS, renumbered=True
    )
    close(got, 0, *right)
    placed = trace.layouts[4].positions
    assert placed is not None
    assert torch.equal(placed[-1, 0], torch.arange(15))


@ALL
def test_positions_given_or_averaged_are_rotated_by_the_decoder(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    pairs = torch.arange(20)[None].clone()
    pairs[:, 4:14] -= (pairs[:, 4:14] - 4) % 2  # 4 5 -> 4, 6 7 -> 6, ...

    def average(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        return Edit(pairs == torch.arange(20), hidden, "average", pairs)

    def given(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        assert layout.positions is not None
        places = layout.positions.float().clone()
        middle = places[..., 4:14].unflatten(-1, (5, 2)).mean(-1)
        places[..., 4:14:2] = middle
        return Edit(pairs == torch.arange(20), hidden, places)

    results = []
    for choose in (average, given):
        with edited(decoder_of(model), [Using(2, choose)], layout_of(mask)) as trace:
            results.append(generate(model, embeds))
    assert all(torch.equal(a, b) for a, b in zip(results[0].logits, results[1].logits, strict=True))
    placed = trace.layouts[2].positions
    assert placed is not None
    assert (
        placed[-1, 0, 4:9].tolist()
        == positions_of(model, mask)
        .expand(3, 1, 20)[-1, 0, 4:14]
        .float()
        .unflatten(0, (5, 2))
        .mean(-1)
        .tolist()
    )


def test_merged_hidden_states_replace_the_kept_ones() -> None:
    model = qwen2()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    seen = {}

    def merge(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        merged = hidden.clone()
        merged[:, 4] = hidden[:, 4:14].mean(1)
        seen["merged"] = merged
        return Edit([torch.tensor([*range(5), *range(14, 20)])], merged)

    inputs: list[Any] = []
    layer = model.model.layers[2]
    hook = layer.register_forward_hook(lambda module, args, output: inputs.append(args))
    with edited(model.model, [Using(2, merge)], layout_of(mask)):
        generate(model, embeds)
    hook.remove()
    assert torch.equal(inputs[0][0], seen["merged"][:, [*range(5), *range(14, 20)]])


def test_the_fastv_block_of_the_official_code_is_reproduced(shared: Any) -> None:
    for case in ("case-a", "case-b"):
        data = numpy.load(shared / "golden" / "fastv" / f"{case}.npz")
        hidden = torch.from_numpy(data["in_hidden"])
        length, width = hidden.shape[1:]
        start, count = int(data["p_start"]), int(data["p_n_visual"])
        model = qwen2()
        mask = torch.ones(1, length, dtype=torch.long)
        kept = torch.from_numpy(data["out_kept_index"])
        seen: dict[str, Any] = {}

        def choose(
            hidden: Tensor, layout: Layout, scores: Tensor | None, kept: Tensor = kept
        ) -> Edit:
            return Edit(kept[None].flip(1))

        def note(_: Any, args: Any, kwargs: Any, seen: dict[str, Any] = seen) -> None:
            seen.setdefault("hidden", args[0])
            seen.setdefault("positions", kwargs["position_ids"])

        def insert(_: Any, args: Any, kwargs: Any, hidden: Tensor = hidden) -> Any:
            return (torch.nn.functional.pad(hidden, (0, 64 - hidden.shape[-1])), *args[1:]), kwargs

        hooks = [model.model.layers[2].register_forward_pre_hook(insert, with_kwargs=True)]
        with edited(model.model, [Using(2, choose)], layout_of(mask, start, count)) as trace:
            hooks.append(model.model.layers[2].register_forward_pre_hook(note, with_kwargs=True))
            with torch.no_grad():
                model(inputs_embeds=prompt(model, 1, length), attention_mask=mask)
        for hook in hooks:
            hook.remove()
        assert numpy.array_equal(seen["hidden"][..., :width], data["out_hidden"])
        assert numpy.array_equal(seen["positions"], data["out_position_ids"])
        assert numpy.array_equal(trace.kept(2), data["out_kept_index"])


@pytest.mark.parametrize("make", [qwen2, qwen25vl])
def test_a_second_turn_on_the_same_cache_equals_recomputing(make: Any) -> None:
    model = make()
    decoder = decoder_of(model)
    first, second = prompt(model, 1, 20), prompt(model, 1, 15)
    mask = torch.ones(1, 20, dtype=torch.long)
    cache = DynamicCache(config=decoder.config)
    places = positions_of(model, mask)
    with edited(decoder, [dropping(2)], layout_of(mask)) as trace:
        one = generate(model, first, past_key_values=cache, max_new_tokens=3)
    assert kv_tokens(cache) == [22, 22, 17, 17, 17]
    # The turn: what was generated but is not in the cache yet, then 15 tokens with a picture.
    said = decoder.embed_tokens(one.sequences[:, -3:])
    everything = torch.cat([first, said, second], 1).detach()
    last = places.max()
    said_places = (last + 1 + torch.arange(3)).expand(*places.shape[:-1], -1)
    second_mask = torch.ones(1, 15, dtype=torch.long)
    second_places = mrope(second_mask, 3, (1, 3, 3)) if places.ndim == 3 else torch.arange(15)[None]
    places = torch.cat([places, said_places, second_places + last + 4], -1)
    whole = torch.ones(1, 38, dtype=torch.long)
    layout = Layout.of(whole, torch.tensor([[4 <= i < 14 or 26 <= i < 35 for i in range(38)]]))
    with edited(decoder, [fastv(3, 5)], layout, past=trace) as second_trace:
        two = generate(model, everything, whole, position_ids=places, past_key_values=cache)
    assert kv_tokens(cache) == [42, 42, 37, 33, 33]
    assert second_trace.visual[:, 0].tolist() == [9, 9, 9, 5, 5]

    # Recompute: the old tokens reach layers 2.. as kept in turn one, the new ones 3.. as in two.
    old = torch.tensor([0, 1, 2, 3, 4, 6, 8, 10, 12, *range(14, 22)])
    kept = {
        2: torch.cat([old, torch.arange(22, 38)]),
        3: torch.cat([old, second_trace.kept(3)]),
    }
    close(two, 0, *from_scratch(model, everything, places[..., 0, :], kept, STEPS))


def test_a_turn_of_text_alone_goes_on_with_a_ragged_padded_cache() -> None:
    model = qwen2()
    embeds = prompt(model, 2)
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[0, :3] = 0
    cache = DynamicCache(config=model.config)
    more = prompt(model, 2, 4)
    with edited(model.model, [fastv(2, 3)], layout_of(mask)) as trace, torch.no_grad():
        model(inputs_embeds=embeds, attention_mask=mask, past_key_values=cache,
              position_ids=positions_of(model, mask))  # fmt: skip
        longer = torch.cat([mask, torch.ones(2, 4, dtype=torch.long)], 1)
        places = positions_of(model, longer)[:, 20:]
        got = model(inputs_embeds=more, attention_mask=longer, past_key_values=cache,
                    position_ids=places).logits  # fmt: skip
    assert kv_tokens(cache) == [24, 24, 17, 17, 17]
    for row in range(2):
        start = 3 if row == 0 else 0
        kept = {2: torch.cat([trace.kept(2, row) - start, torch.arange(20 - start, 24 - start)])}
        whole = torch.cat([embeds, more], 1)[row : row + 1, start:]
        right, _ = from_scratch(model, whole, torch.arange(24 - start), kept, 1)
        torch.testing.assert_close(got[row, -1], right[0], atol=2e-5, rtol=1e-5)


@ALL
def test_looking_ahead_reads_the_rows_the_layer_itself_would_compute(make: Any) -> None:
    """PyramidDrop's score: queries and keys of the layer that is about to run."""
    model = make()
    decoder = decoder_of(model)
    embeds = prompt(model, 2)
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[0, :3] = 0
    seen: list[Tensor] = []

    @dataclass(frozen=True)
    class Ahead:
        layer: int
        ahead: bool = True

        def rows(self, layout: Layout) -> Any:
            return "last"

        def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
            assert scores is not None
            seen.append(scores)
            return Edit(~layout.padding)  # everything stays, so that the plain map is the same

    with (
        torch.no_grad(),
        edited(decoder, [dropping(1), Ahead(2)], layout_of(mask)),
        probe(decoder, {2: "last"}) as scores,
    ):
        model(inputs_embeds=embeds, attention_mask=mask)
    assert len(scores.all[2]) == 1
    torch.testing.assert_close(seen[0], scores[2], atol=1e-6, rtol=0)
    assert all(layer.self_attn.config is decoder.config for layer in decoder.layers)


def test_a_cache_shortened_by_an_unknown_call_is_refused() -> None:
    model = qwen2()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    cache = DynamicCache(config=model.config)
    with edited(model.model, [dropping(2)], layout_of(mask)):
        generate(model, embeds, past_key_values=cache)
    longer = prompt(model, 1, 30)
    with (
        pytest.raises(UserError, match="holds 19 tokens instead of 24: pass the trace"),
        edited(model.model, [dropping(2)], layout_of(torch.ones(1, 30, dtype=torch.long))),
    ):
        generate(model, longer, past_key_values=cache)


def test_a_layout_of_another_length_is_refused_with_the_numbers() -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 21, dtype=torch.long))
    with (
        pytest.raises(UserError, match="given 20 tokens after 0, but the layout has 21"),
        edited(model.model, [dropping(2)], layout),
    ):
        generate(model, prompt(model))


def test_a_decoder_is_edited_once_at_a_time() -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    with (
        edited(model.model, [dropping(2)], layout),
        pytest.raises(UserError, match="all edits in one list"),
        edited(model.model, [dropping(3)], layout),
    ):
        pass


@pytest.mark.parametrize("layer", [0, 5, -1])
def test_an_edit_before_layer_0_or_beyond_the_last_is_refused(layer: int) -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    with (
        pytest.raises(UserError, match=r"before layer 0: reduce|no layer"),
        edited(model.model, [dropping(layer)], layout),
    ):
        pass


def test_two_edits_before_one_layer_are_refused() -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    with (
        pytest.raises(UserError, match="two edits before layer 2"),
        edited(model.model, [dropping(2), dropping(2)], layout),
    ):
        pass


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}],
)
def test_beams_and_several_answers_are_refused_in_one_line(options: dict[str, Any]) -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    with (
        pytest.raises(UserError, match="beam search and num_return_sequences") as caught,
        edited(model.model, [dropping(2)], layout),
    ):
        generate(model, prompt(model), **options)
    assert "\n" not in str(caught.value)


def test_a_static_cache_is_refused_in_one_line() -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    cache = StaticCache(config=model.config, max_cache_len=64)
    with (
        pytest.raises(UserError, match="static, sliding-window or recurrent cache") as caught,
        edited(model.model, [dropping(2)], layout),
        torch.no_grad(),
    ):
        model(inputs_embeds=prompt(model), past_key_values=cache, use_cache=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", [0, 19])
def test_dropping_text_or_the_last_token_is_an_error(lost: int) -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))

    def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        keep = torch.ones(1, 20, dtype=torch.bool)
        keep[:, lost] = False
        return Edit(keep)

    with (
        pytest.raises(ValueError, match="may not be pruned"),
        edited(model.model, [Using(2, choose)], layout),
    ):
        generate(model, prompt(model))


def hooks_of(model: Any) -> int:
    parts = list(model.modules())
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in parts)


def test_hooks_and_attention_are_restored_after_an_exception() -> None:
    model = qwen2()
    embeds = prompt(model)
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    plain, hooks = generate(model, embeds), hooks_of(model)

    def fail(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        raise RuntimeError("broken system")

    with (
        pytest.raises(RuntimeError, match="broken system"),
        edited(model.model, [Using(2, fail, "last"), dropping(1)], layout),
    ):
        generate(model, embeds)
    assert hooks_of(model) == hooks
    assert all(layer.self_attn.config is model.config for layer in model.model.layers)
    assert all(
        torch.equal(a, b) for a, b in zip(plain.logits, generate(model, embeds).logits, strict=True)
    )


def test_another_thread_on_the_same_weights_is_left_alone() -> None:
    model = qwen2()
    embeds = prompt(model)
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    plain = generate(model, embeds)
    results: list[Any] = []
    with edited(model.model, [fastv(2, 3)], layout):
        other = threading.Thread(target=lambda: results.append(generate(model, embeds)))
        other.start()
        other.join()
        mine = generate(model, embeds)
    assert torch.equal(results[0].sequences, plain.sequences)
    assert kv_tokens(results[0].past_key_values) == [24] * 5
    assert kv_tokens(mine.past_key_values) == [24, 24, 17, 17, 17]


@ALL
def test_bfloat16_runs_and_keeps_its_type(make: Any) -> None:
    model = make().to(torch.bfloat16)
    embeds = prompt(model, 2)
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[0, :3] = 0
    with edited(decoder_of(model), [fastv(2, 3)], layout_of(mask)):
        got = generate(model, embeds, mask)
    assert got.logits[0].isfinite().all()
    assert got.past_key_values.layers[2].keys.dtype == torch.bfloat16
    assert kv_tokens(got.past_key_values) == [24, 24, 17, 17, 17]


def test_a_call_may_run_several_prompts_one_after_the_other() -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    embeds = prompt(model)
    with edited(model.model, [fastv(2, 3)], layout):
        one, two = generate(model, embeds), generate(model, embeds)
    assert torch.equal(one.sequences, two.sequences)
    assert kv_tokens(two.past_key_values) == [24, 24, 17, 17, 17]


def test_what_is_dropped_is_not_computed() -> None:
    model = qwen2()
    mask = torch.ones(1, 200, dtype=torch.long)
    embeds, layout = prompt(model, 1, 200), layout_of(mask, 10, 180)

    def flops(edits: list[Any]) -> int:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad(), edited(model.model, edits, layout):
            model(inputs_embeds=embeds, attention_mask=mask, logits_to_keep=1)
        return counter.get_total_flops()

    assert flops([dropping(1, every=180)]) < 0.35 * flops([])


@ALL
def test_a_reordered_token_is_followed_to_its_new_column(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    decoder, swapped = decoder_of(model), torch.arange(20)
    swapped[[6, 9]] = torch.tensor([9, 6])

    def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        keep = ~layout.prunable | torch.isin(layout.index, torch.tensor([6, 8, 9]))
        return Edit(keep, hidden[:, swapped], "renumber", source=swapped[None])

    def last(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        return Edit(~layout.prunable | (layout.index == 9))

    text = [*range(4)], [*range(14, 20)]
    with edited(decoder, [Using(2, choose), Using(3, last)], layout_of(mask)) as trace:
        got = generate(model, embeds)
    assert trace.kept(2).tolist() == [*text[0], 9, 8, 6, *text[1]]
    assert trace.kept(3).tolist() == [*text[0], 9, *text[1]]
    assert kv_tokens(got.past_key_values) == [24, 24, 17, 15, 15]


def test_marks_made_before_the_first_layer_are_carried_to_every_edit() -> None:
    model = qwen2()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    seen = []

    @dataclass(frozen=True)
    class Marking(Using):
        def mark(self, embeds: Tensor, layout: Layout) -> Tensor:
            return embeds[..., 0]

    def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        seen.append((layout.index, layout.marks, layout.prunable_at_start[0, :1].tolist()))
        return Edit(~layout.prunable | (layout.index % 2 == 0))

    with edited(model.model, [Marking(1, choose), Using(3, choose)], layout_of(mask)):
        generate(model, embeds)
    assert [len(index[0]) for index, _, _ in seen] == [20, 15]
    for index, marks, start in seen:
        assert torch.equal(marks, embeds[..., 0].gather(1, index))
        assert start == [10]


@ALL
def test_evicted_tokens_are_gone_from_the_layers_before_too(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model, 2), torch.ones(2, 20, dtype=torch.long)
    mask[0, :3] = 0

    @dataclass(frozen=True)
    class Evicting(Using):
        evicts = True

    def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        keep = ~layout.prunable | (layout.index % 5 == 0)
        keep[-1] |= layout.index[-1] == 6  # rows keep different counts
        return Edit(keep)

    with edited(decoder_of(model), [Evicting(3, choose)], layout_of(mask)) as trace:
        got = generate(model, embeds, mask)
    assert kv_tokens(got.past_key_values) == [24, 17, 17, 17, 17]
    assert trace.visual.tolist() == [[10, 10]] * 3 + [[2, 3]] * 2
    with edited(decoder_of(model), [Evicting(3, choose)], layout_of(mask[1:])):
        alone = generate(model, embeds[1:], mask[1:])
    for mine, right in zip(got.logits, alone.logits, strict=True):
        torch.testing.assert_close(mine[1], right[0], atol=2e-5, rtol=1e-5)


def test_the_answer_no_longer_sees_evicted_tokens() -> None:
    model = qwen2()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)

    @dataclass(frozen=True)
    class Evicting(Using):
        evicts = True

    def none(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        return Edit(~layout.prunable)

    with edited(model.model, [Evicting(4, none)], layout_of(mask)):
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(inputs_embeds=embeds, attention_mask=mask, past_key_values=cache)
        before = [layer.keys.clone() for layer in cache.layers]
    assert [keys.shape[2] for keys in before] == [20, 10, 10, 10, 10]
    plain = DynamicCache(config=model.config)
    with torch.no_grad():
        model(inputs_embeds=embeds, attention_mask=mask, past_key_values=plain)
    text = [*range(4), *range(14, 20)]
    for layer in (1, 2, 3):
        assert torch.equal(before[layer], plain.layers[layer].keys[:, :, text])

    # Layer 0 still holds them, but the answer does not see them there either.
    logits = []
    for noise in (0.0, 5.0):
        with edited(model.model, [Evicting(4, none)], layout_of(mask)), torch.no_grad():
            cache = DynamicCache(config=model.config)
            model(inputs_embeds=embeds, attention_mask=mask, past_key_values=cache)
            cache.layers[0].keys[:, :, 4:14] += noise
            cache.layers[0].values[:, :, 4:14] += noise
            longer = torch.ones(1, 21, dtype=torch.long)
            token = torch.tensor([[7]])
            logits.append(
                model(input_ids=token, attention_mask=longer, past_key_values=cache).logits
            )
    torch.testing.assert_close(logits[0], logits[1])
