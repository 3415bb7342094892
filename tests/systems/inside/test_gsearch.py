from __future__ import annotations

import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.registry import build
from sparsight.llm.cache import kv_tokens
from sparsight.llm.edits import edited
from sparsight.llm.layout import Layout
from tests.llm.tiny import layout_of, prompt, qwen2

SCHEDULE = (1.0, 0.8, 0.8, 0.35, 0.1)


def run(system, length: int = 20, count: int = 10):
    model, mask = qwen2(), torch.ones(1, length, dtype=torch.long)
    layout = layout_of(mask, count=count)
    with torch.no_grad(), edited(model.model, system.edits(5), layout) as trace:
        out = model(inputs_embeds=prompt(model, length=length), attention_mask=mask)
    return trace, out


def test_each_layer_sees_its_share_of_the_original_number() -> None:
    trace, out = run(build("gsearch", {"schedule": SCHEDULE}))
    assert trace.visual[:, 0].tolist() == [10, 8, 8, 4, 1]  # 3.5 rounds to even
    assert kv_tokens(out.past_key_values) == [20, 18, 18, 14, 11]


def test_kept_sets_are_nested() -> None:
    trace, _ = run(build("gsearch", {"schedule": SCHEDULE}))
    for layer in range(1, 5):
        assert torch.isin(trace.kept(layer), trace.kept(layer - 1)).all()


def test_there_is_an_edit_only_where_the_share_falls() -> None:
    edits = build("gsearch", {"schedule": SCHEDULE}).edits(5)
    assert [edit.layer for edit in edits] == [1, 3, 4]
    assert build("gsearch", {"schedule": (1.0,) * 5}).edits(5) == []
    assert build("gsearch", {"keep": 1.0}).edits(5) == []


def test_the_mean_over_the_layers_is_what_was_asked_for() -> None:
    system = build("gsearch", {"keep": 0.4})
    assert sum(system.shares(5)) / 5 == pytest.approx(0.4)
    trace, _ = run(system, 220, 200)
    assert trace.visual.float().mean().item() == pytest.approx(0.4 * 200, rel=0.01)


def test_words_of_the_question_rank_the_tokens() -> None:
    layout = Layout.of(torch.ones(1, 6), torch.tensor([[0, 1, 1, 1, 0, 0]]))
    [edit] = build("gsearch", {"schedule": (1.0, 0.34)}).edits(2)
    assert edit.rows(layout).tolist() == [[4, 5]]
    scores = torch.zeros(1, 2, 6)
    scores[0, 0, 2], scores[0, 1, 3] = 0.6, 0.5
    made = edit.edit(torch.randn(1, 6, 4), layout, scores)
    assert made.keep[0].nonzero()[:, 0].tolist() == [0, 2, 4, 5]


def test_the_last_token_alone_may_rank_them() -> None:
    [edit] = build("gsearch", {"schedule": (1.0, 0.5), "query": "last"}).edits(2)
    assert edit.rows(layout_of(torch.ones(1, 20, dtype=torch.long))) == "last"


def test_a_schedule_is_saved_with_the_plan_and_read_again() -> None:
    plan = Plan(systems=(build("gsearch", {"schedule": SCHEDULE}),))
    assert Plan.from_yaml(plan.to_yaml()) == plan


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"schedule": (1.0, 0.5)}, "has 2 shares, but the LLM 5 layers"),
        ({"schedule": (0.9, 0.5, 0.5, 0.5, 0.5)}, "must begin with 1"),
        ({"schedule": (1.0, 0.5, 0.6, 0.5, 0.5)}, "must not rise"),
        ({"keep": 0.2}, r"keep=0.2 with floor=0.05: the mean share must lie between 0.24 and 1"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(knobs, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build("gsearch", knobs).edits(5)
