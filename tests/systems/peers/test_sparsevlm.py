from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.llm.edits import edited
from sparsight.llm.layout import Layout
from sparsight.systems.peers.sparsevlm import rater_share, stage_share
from tests.llm.tiny import layout_of, prompt, qwen2


@pytest.mark.parametrize("name", ["a", "b"])
def test_three_stages_equal_the_official_ones(golden, name: str) -> None:
    case = golden("sparsevlm", name)
    embeds, first = case["in_embeddings"], int(case["p_prefix"])
    count, words = int(case["p_n_visual"]), int(case["p_n_text"])
    visual = torch.zeros(1, embeds.shape[1], dtype=torch.bool)
    visual[:, first : first + count] = True
    layout = Layout.of(torch.ones(visual.shape), visual)
    edits = build("sparsevlm", {"counts": case["p_keep_table"].tolist()}).edits(depth=32)
    marks = edits[0].mark(embeds, layout)
    share = rater_share(embeds[0, visual[0]], embeds[0, first + count :])
    torch.testing.assert_close(share, case["out_rater_score"][0])
    raters = marks[0].nonzero()[:, 0] - first - count
    assert torch.equal(raters, case["out_rater_index"])
    layout = replace(layout, marks=marks)
    for stage, edit in enumerate(edits):
        hidden = case[f"in_hidden_{stage}"]
        rows = edit.rows(layout)
        attention = case[f"in_attention_{stage}"].mean(1)
        scores = attention.gather(1, rows[..., None].expand(-1, -1, attention.shape[-1]))
        made = edit.edit(hidden, layout, scores)
        columns = made.keep[0].nonzero()[:, 0]
        kept, merged = case[f"out_keep_mask_{stage}"], case[f"out_merged_{stage}"]
        came = made.source[0, columns]
        span = first + kept.nonzero()[:, 0]
        assert torch.equal(came[first : first + len(span)], span)
        means = made.hidden[0, columns][first + len(span) : len(columns) - words]
        torch.testing.assert_close(means, merged, atol=1e-5, rtol=1e-5)
        official = case[f"out_hidden_{stage}"]
        torch.testing.assert_close(made.hidden[:, columns], official, atol=1e-5, rtol=1e-5)
        assert len(columns) - first - words == int(case[f"out_v_token_num_{stage}"])
        assert case[f"out_position_ids_{stage}"][0].tolist() == [*range(len(columns))]
        assert made.positions == "renumber"
        layout = layout.take(came[None])


def test_the_average_over_the_layers_gives_the_published_counts() -> None:
    for average, counts in ((64, [66, 30, 17]), (96, [238, 48, 26]), (192, [300, 200, 110])):
        assert [round(576 * stage_share(average / 576, stage)) for stage in range(3)] == counts
    assert [stage_share(1.0, stage) for stage in range(3)] == [1.0, 1.0, 1.0]
    between = [576 * stage_share(160 / 576, stage) for stage in range(3)]
    assert between == pytest.approx([301.5, 155, 73])


def test_each_medium_is_ranked_and_recycled_apart() -> None:
    torch.manual_seed(1)
    media = torch.tensor([[-1, 0, 0, 0, 0, -1, 1, 1, 1, -1, -1]])
    layout = Layout.of(torch.ones(1, 11), media >= 0, media=media)
    [edit] = build("sparsevlm", {"layers": (3,), "counts": (1,)}).edits(depth=5)
    marks = torch.zeros(1, 11, dtype=torch.bool)
    marks[0, 9:] = True
    scores = torch.zeros(1, 2, 11)
    scores[0, :, [4, 7]] = 1.0
    made = edit.edit(torch.randn(1, 11, 4), replace(layout, marks=marks), scores)
    # Of each medium one token is kept and one is the mean of others, which stands behind it.
    assert made.source[0, made.keep[0]].tolist()[1] == 4
    assert made.keep[0].nonzero()[:, 0].tolist() == [0, 3, 4, 5, 7, 8, 9, 10]
    assert made.source[0, 7] == 7


def test_recycled_means_take_part_in_later_stages() -> None:
    model, mask = qwen2(), torch.ones(1, 20, dtype=torch.long)
    system = build("sparsevlm", {"layers": (1, 2, 4), "counts": (6, 4, 2)})
    with torch.no_grad(), edited(model.model, system.edits(5), layout_of(mask)) as trace:
        model(inputs_embeds=prompt(model), attention_mask=mask)
    assert trace.visual[:, 0].tolist() == [10, 7, 5, 5, 3]


def test_layers_and_counts_must_be_as_many() -> None:
    with pytest.raises(UserError, match="1 layers for 3 stages"):
        build("sparsevlm", {"layers": (2,)})
