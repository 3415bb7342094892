from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from sparsight.llm.edits import edited
from sparsight.llm.layout import Layout
from sparsight.ops.cluster import dpc_knn
from sparsight.ops.segment import segments_of_labels
from tests.llm.tiny import layout_of, prompt, qwen2
from tests.systems.conftest import make_map

REQUEST = Request("", torch.zeros(0, 8))


def tokens_of(features: Tensor) -> VisualTokens:
    """(T, N, C) features."""
    return pack(make_map(features[:, None]), lambda x, _: x.flatten(0, 2))


def knobs_of(case: dict[str, Tensor]) -> dict[str, float]:
    return {
        "keep": float(case["p_cluster_ratio"]),
        "static": float(case["p_tau"]),
        "segments": float(case["p_temporal_segment_ratio"]),
    }


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_segments_come_out(golden, name: str) -> None:
    case = golden("prunevid", name)
    x = case["in_features"]
    found = dpc_knn(x.mean(1)[None], int(case["p_clusters"]), int(case["p_k"]), _noise(case))
    assert torch.equal(found.label[0], case["out_frame_cluster"])
    assert segments_of_labels(found.label[0].tolist()) == case["out_window_sizes"].tolist()
    assert build("prunevid", knobs_of(case)).lengths(x) == case["out_window_sizes"].tolist()


def _noise(case: dict[str, Tensor]) -> Tensor | None:
    return case.get("in_noise_00")


def test_the_official_refinement_of_frame_clusters(golden) -> None:
    case = golden("prunevid", "c")
    for labels, sizes in zip(case["in_frame_cluster"], case["out_window_sizes"], strict=True):
        assert segments_of_labels(labels.tolist()) == [n for n in sizes.tolist() if n]


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_tokens_come_out_in_their_order(golden, name: str) -> None:
    case = golden("prunevid", name)
    kept = build("prunevid", knobs_of(case)).reduce(tokens_of(case["in_features"]), REQUEST)
    torch.testing.assert_close(kept.embeds, case["out_tokens"], atol=1e-5, rtol=1e-5)
    sizes = kept.group.bincount().tolist()
    segments = case["out_window_sizes"].tolist()
    static, dynamic, at = [], [], 0
    for length in segments:
        static.append(sizes[at] if at < len(sizes) else 0)
        dynamic.append(sum(sizes[at + 1 : at + 1 + length]))
        at += 1 + length
    assert static == case["out_static_sizes"].tolist()
    assert dynamic == case["out_dynamic_sizes"].tolist()


def test_the_official_tokens_stay_inside_the_llm(golden) -> None:
    case = golden("prunevid", "d")
    hidden, first, count = case["in_hidden"], int(case["p_prefix"]), int(case["p_n_visual"])
    visual = torch.zeros(hidden.shape[:2], dtype=torch.bool)
    visual[:, first : first + count] = True
    group = torch.full(visual.shape, -1)
    sizes = []
    for static, dynamic, frames in zip(
        case["p_static_sizes"].tolist(),
        case["p_dynamic_sizes"].tolist(),
        case["p_window_sizes"].tolist(),
        strict=True,
    ):
        sizes += [static, *[dynamic // frames] * frames]
    group[visual] = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    layout = Layout.of(torch.ones(visual.shape), visual, group=group)
    system = build(
        "prunevid",
        {"inside": float(case["p_alpha"]), "layer": int(case["p_selected_layer"]) + 1},
    )
    [edit] = system.edits(3)
    rows = edit.rows(layout)
    attention = case["in_attention"].amax(1)
    made = edit.edit(hidden, layout, attention.gather(1, rows[..., None].expand(-1, -1, 56)))
    kept = made.keep[0].nonzero()[:, 0]
    assert torch.equal(
        kept[(kept >= first) & (kept < first + count)] - first, case["out_selected_visual"]
    )
    assert torch.equal(hidden[:, kept], case["out_hidden"])
    assert torch.equal(kept[None], case["out_position_ids"])


def test_what_stands_still_becomes_one_token_of_its_segment() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 16).expand(8, 6, 16).clone()
    x[:, 4] = torch.randn(8, 16)  # one position moves
    kept = build("prunevid", {"segments": 0.125, "static": 0.9}).reduce(tokens_of(x), REQUEST)
    assert len(kept) == 5 + 8
    assert kept.weight.tolist() == [8.0] * 5 + [1.0] * 8
    torch.testing.assert_close(kept.embeds[:5], x[0, [0, 1, 2, 3, 5]])
    assert kept.index.diff().gt(0).all()
    assert kept.view.tolist() == [0] * 6 + [*range(1, 8)]


def test_a_film_of_few_frames_will_do() -> None:
    for frames in (1, 2, 3):
        kept = build("prunevid", {}).reduce(tokens_of(torch.randn(frames, 20, 8)), REQUEST)
        assert 0 < len(kept) < frames * 20


def test_what_the_question_does_not_choose_leaves_the_cache_too() -> None:
    model, mask = qwen2(), torch.ones(1, 20, dtype=torch.long)
    edits = build("prunevid", {"layer": 3, "inside": 0.4}).edits(5)
    with torch.no_grad(), edited(model.model, edits, layout_of(mask)) as trace:
        out = model(inputs_embeds=prompt(model), attention_mask=mask)
    assert trace.visual[:, 0].tolist() == [10, 10, 10, 4, 4]
    held = [layer.keys.shape[2] for layer in out.past_key_values.layers]
    assert held == [20, 14, 14, 14, 14]
