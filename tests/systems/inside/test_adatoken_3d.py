from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.llm.attention import probe
from sparsight.llm.cache import kv_tokens
from sparsight.llm.edits import edited
from sparsight.llm.layout import Layout
from sparsight.llm.visual_flow import mean_flow, visual_flow
from sparsight.measure.flops import DecoderShape, prefill_flops
from sparsight.ops.cumulative_mass import falling_cuts
from tests.llm.tiny import layout_of, prompt, qwen2
from tests.systems.inside.planted import VOXELS, planted, scene

MASK = torch.ones(1, 20, dtype=torch.long)


def run(model: Any, system: Any, embeds: Tensor, layout: Layout) -> Any:
    mask = (~layout.padding).long()
    with torch.no_grad(), edited(model.model, system.edits(len(model.model.layers)), layout) as t:
        return t, model(inputs_embeds=embeds, attention_mask=mask)


def edit_of(**knobs: Any) -> Any:
    [edit] = build("adatoken-3d", {"layers": (1,), **knobs}).edits(4)
    return edit


# ---- how many, and which -------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.3, 0.1, 0.05])
def test_the_smallest_set_that_holds_the_mass_stays(eps: float) -> None:
    layout = layout_of(MASK)
    scores = torch.rand(1, 6, 20) ** 5
    made = edit_of(eps=eps, floor=0.0).edit(torch.randn(1, 20, 8), layout, scores)
    kept = made.keep[0] & layout.visual[0]
    received = scores[0].double().mean(0) * layout.visual[0]
    assert received[kept].sum() >= (1 - eps) * received.sum()
    assert received[kept].sum() - received[kept].min() < (1 - eps) * received.sum()
    assert received[kept].min() >= received[layout.visual[0] & ~kept].max()
    assert made.hidden is None  # features, 3-D embeddings in them, stay what they are
    assert made.positions == "keep"


def test_text_that_draws_attention_takes_no_part() -> None:
    scores = torch.zeros(1, 6, 20)
    scores[..., 4:14] = 0.1 * torch.rand(10)
    edit = edit_of(floor=0.0)
    kept = edit.edit(torch.randn(1, 20, 8), layout_of(MASK), scores).keep
    scores[..., 0] = 50.0  # a sink
    assert torch.equal(edit.edit(torch.randn(1, 20, 8), layout_of(MASK), scores).keep, kept)


def test_the_number_stays_between_floor_and_ratio_of_what_there_was() -> None:
    layout = layout_of(MASK)
    even, peaked = torch.ones(1, 20), torch.zeros(1, 20)
    peaked[0, 6] = 1.0
    assert edit_of(ratios=(0.4,)).quota(even, layout).tolist() == [4]
    assert edit_of(ratios=(0.4,), floor=0.3).quota(peaked, layout).tolist() == [3]
    assert edit_of(ratios=(0.2,), floor=0.3).quota(peaked, layout).tolist() == [2]
    assert edit_of(ratios=(0.0,)).quota(even, layout).tolist() == [0]
    assert edit_of(ratios=(0.4,), eps=0.0).quota(peaked, layout).tolist() == [4]


def test_each_row_of_a_padded_batch_keeps_its_own_number() -> None:
    model, mask = qwen2(), torch.ones(2, 20, dtype=torch.long)
    mask[0, :5] = 0
    embeds, layout = prompt(model, 2), layout_of(mask, count=8)
    system = build("adatoken-3d", {"eps": 0.4, "layers": (1, 3), "floor": 0.0})
    both, _ = run(model, system, embeds, layout)
    for row, start in ((0, 5), (1, 0)):
        alone_layout = layout_of(mask[[row], start:], count=8)
        alone, _ = run(model, system, embeds[[row], start:], alone_layout)
        assert torch.equal(both.visual[:, row], alone.visual[:, 0])
        assert torch.equal(both.kept(4, row) - start, alone.kept(4))


@pytest.mark.parametrize(("query", "heads"), [("text", "mean"), ("text", "max"), ("last", "mean")])
def test_rows_of_the_text_alone_give_the_contributions_of_the_whole_map(query, heads) -> None:
    model, layout = qwen2(), layout_of(MASK)
    edit = edit_of(query=query, heads=heads)
    with torch.no_grad(), probe(model.model, {0: edit.rows(layout)}, heads) as few:
        model(inputs_embeds=prompt(model), attention_mask=MASK)
    torch.manual_seed(0)
    model = qwen2()
    with torch.no_grad(), probe(model.model, {0: torch.arange(20)}) as whole:
        model(inputs_embeds=prompt(model), attention_mask=MASK)
    wanted = whole[0].mean(1) if heads == "mean" else whole[0].amax(1)
    wanted = wanted[:, -1] if query == "last" else wanted[:, 14:].mean(1)
    got = few[0][:, 0] if query == "last" else few[0].mean(1)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


# ---- the model with the edits --------------------------------------------------------------------


def test_nothing_goes_without_an_eps() -> None:
    assert build("adatoken-3d", {"eps": 0.0}).edits(32) == []


def test_without_a_calibration_the_cuts_are_in_the_middle() -> None:
    assert [edit.layer for edit in build("adatoken-3d", {}).edits(32)] == [11, 21]
    assert [edit.layer for edit in build("adatoken-3d", {}).edits(2)] == [1]


def test_what_goes_is_in_no_later_layer_and_what_stays_keeps_its_position() -> None:
    model, layout = qwen2(), layout_of(MASK)
    system = build("adatoken-3d", {"layers": (2, 4), "ratios": (0.5, 0.0), "eps": 0.0})
    embeds = prompt(model)
    trace, out = run(model, system, embeds, layout)
    assert trace.visual[:, 0].tolist() == [10, 10, 5, 5, 0]
    assert kv_tokens(out.past_key_values) == [20, 20, 15, 15, 10]
    later = trace.layouts[2]
    assert torch.equal(later.positions[0, 0], later.index[0])  # original positions


def test_tokens_that_give_nothing_go_first_and_the_answer_stays() -> None:
    model = planted(layers=4, looks=range(4))
    embeds, layout, relevant = scene(things=3)
    system = build("adatoken-3d", {"layers": (1, 2), "eps": 0.01, "floor": 0.0})
    trace, out = run(model, system, embeds, layout)
    assert torch.equal(trace.kept(2)[layout.visual[0][trace.kept(2)]], relevant)
    with torch.no_grad():
        whole = model(inputs_embeds=embeds).logits[0, -1]
    assert out.logits[0, -1].argmax() == whole.argmax()
    torch.testing.assert_close(out.logits[0, -1], whole, atol=0.05, rtol=0.01)


# ---- calibration ---------------------------------------------------------------------------------


def calibrated(model: Any) -> tuple[list[int], list[float]]:
    flows = []
    for seed in range(4):
        torch.manual_seed(seed)
        embeds, layout, _ = scene(things=3)
        with torch.no_grad():
            flows.append(
                visual_flow(model.model, layout, partial(model.model, inputs_embeds=embeds))
            )
    flow = mean_flow(flows)
    return falling_cuts(flow.to_text.tolist(), flow.effective.tolist())


@pytest.mark.parametrize("last", [1, 3])
def test_calibration_finds_where_the_text_has_stopped_looking(last: int) -> None:
    layers, ratios = calibrated(planted(layers=6, looks=range(last + 1)))
    assert layers[-1] == last + 1
    assert ratios[-1] == 0.0
    system = build("adatoken-3d", {"layers": tuple(layers), "ratios": tuple(ratios)})
    model = planted(layers=6, looks=range(last + 1))
    embeds, layout, _ = scene(things=3)
    trace, out = run(model, system, embeds, layout)
    assert trace.visual[last + 1 :, 0].tolist() == [0] * (5 - last)
    with torch.no_grad():
        whole = model(inputs_embeds=embeds).logits[0, -1]
    torch.testing.assert_close(out.logits[0, -1], whole, atol=0.05, rtol=0.01)


def test_the_measured_flow_is_that_of_the_whole_map() -> None:
    model, layout = qwen2(), layout_of(MASK)
    embeds = prompt(model)
    run_model = partial(model, inputs_embeds=embeds, attention_mask=MASK)
    with torch.no_grad(), probe(model.model, dict.fromkeys(range(5), torch.arange(20))) as maps:
        flow = visual_flow(model.model, layout, run_model, eps=0.1)
    for layer in range(5):
        seen = maps[layer][0].mean(0)[:, 4:14]
        text = seen[14:].mean(0)
        assert flow.to_text[layer].item() == pytest.approx(text.sum().item(), abs=1e-6)
        assert flow.among[layer].item() == pytest.approx(seen[4:14].sum(1).mean().item(), abs=1e-6)
        held = text.sort(descending=True).values.cumsum(0) / text.sum()
        assert flow.effective[layer].item() == pytest.approx((1 + (held < 0.9).sum().item()) / 10)


# ---- what it is good for -------------------------------------------------------------------------


def test_as_many_as_each_scene_needs_beats_the_same_number_for_all() -> None:
    """Scenes of 1 to 12 things, all of which the answer adds up: the mean kept is the same."""
    model = planted(layers=3, looks=range(3))
    right: dict[str, int] = {"adaptive": 0, "fixed": 0, "random": 0}
    kept: list[int] = []
    scenes = [scene(things=1 + place % 12) for place in range(24)]
    with torch.no_grad():
        whole = [int(model(inputs_embeds=embeds).logits[0, -1].argmax()) for embeds, *_ in scenes]
    adaptive = build("adatoken-3d", {"layers": (1,), "eps": 0.05, "floor": 0.0})
    for (embeds, layout, _), answer in zip(scenes, whole, strict=True):
        trace, out = run(model, adaptive, embeds, layout)
        kept.append(int(trace.visual[1, 0]))
        right["adaptive"] += int(out.logits[0, -1].argmax() == answer)
    share = sum(kept) / len(kept) / VOXELS
    fixed = build("adatoken-3d", {"layers": (1,), "eps": 0.0, "ratios": (share,), "floor": 0.0})
    for (embeds, layout, _), answer in zip(scenes, whole, strict=True):
        trace, out = run(model, fixed, embeds, layout)
        assert abs(int(trace.visual[1, 0]) - sum(kept) / len(kept)) <= 0.5
        right["fixed"] += int(out.logits[0, -1].argmax() == answer)
        columns = layout.visual[0].nonzero()[:, 0]
        stay = torch.randperm(len(columns))[: int(trace.visual[1, 0])]
        gone = layout.visual[0].clone()
        gone[columns[stay]] = False
        few = embeds[:, ~gone]
        places = torch.arange(embeds.shape[1])[~gone][None]
        with torch.no_grad():
            out = model(inputs_embeds=few, position_ids=places)
        right["random"] += int(out.logits[0, -1].argmax() == answer)
    assert right["adaptive"] == len(scenes)
    assert right["adaptive"] > right["fixed"] > right["random"]


def test_a_setting_of_the_published_saving_exists() -> None:
    shape = DecoderShape(32, 4096, 32, 32, 128, 11008, 32000)
    text, visual = 100, 3096
    counts = [
        visual if layer < 9 else round(0.15 * visual) if layer < 20 else round(0.05 * visual)
        for layer in range(32)
    ]
    full = prefill_flops(shape, [text + visual] * 32)
    assert 1 - prefill_flops(shape, [text + n for n in counts]) / full == pytest.approx(
        0.63, abs=0.01
    )


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"ratios": (0.5,)}, "1 ratios for 0 layers"),
        ({"layers": (1, 2), "ratios": (0.5, 0.6)}, "ratios must not rise"),
        ({"layers": (5,)}, "must rise and lie within 1 to 4"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build("adatoken-3d", knobs).edits(5)
