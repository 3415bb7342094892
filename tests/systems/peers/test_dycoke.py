from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from sparsight.llm.cache import kv_tokens
from sparsight.llm.edits import edited
from tests.llm.tiny import layout_of, prompt, qwen2
from tests.systems.conftest import make_map

REQUEST = Request("", torch.zeros(0, 8))


def tokens_of(features: Tensor) -> VisualTokens:
    return pack(make_map(features), lambda x, _: x.flatten(0, 2))


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_tokens_stay(golden, name: str) -> None:
    case = golden("dycoke", name)
    frames, size = int(case["p_frames"]), int(case["p_tokens_per_frame"])
    features = case["in_tokens"].view(frames, 1, size, -1)
    system = build("dycoke", {"rate": float(case["p_k"]), "compat": True})
    kept = system.reduce(tokens_of(features), REQUEST)
    # The released code leaves the tokens of a frame in the order of their likeness.
    assert torch.equal(kept.index, case["out_source_index"].sort().values)
    assert torch.equal(kept.embeds, case["in_tokens"][kept.index])


def test_tokens_like_the_earlier_frame_go() -> None:
    features = torch.ones(4, 1, 4, 8)
    for frame, place in ((1, 2), (2, 0), (3, 3)):
        features[frame, 0, place] = torch.randn(8)
    features[3, 0, 0] = features[2, 0, 0]  # the fourth frame is compared with the third
    kept = build("dycoke", {"rate": 0.75}).reduce(tokens_of(features), REQUEST)
    assert kept.index.tolist() == [0, 1, 2, 3, 4 + 2, 8 + 0, 12 + 3]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 9])
def test_any_number_of_frames_will_do(frames: int) -> None:
    kept = build("dycoke", {"rate": 0.5}).reduce(tokens_of(torch.randn(frames, 1, 4, 8)), REQUEST)
    counts = kept.view.bincount().tolist()
    assert counts == [4 if frame % 4 == 0 else 2 for frame in range(frames)]


def test_a_rate_of_nothing_changes_nothing() -> None:
    tokens = tokens_of(torch.randn(7, 2, 2, 8))
    kept = build("dycoke", {"rate": 0.0}).reduce(tokens, REQUEST)
    assert torch.equal(kept.embeds, tokens.embeds)


def test_the_official_keys_are_seen_at_each_step(golden) -> None:
    case = golden("dycoke", "c")
    first, count = int(case["p_start"]), int(case["p_n_visual"])
    [rule] = build("dycoke", {"forget": float(case["p_p"]), "compat": True}).edits(28)
    for step in range(int(case["p_steps"])):
        attention = case[f"in_attention_step_{step}"][:, :, 0].mean(1)
        visual = torch.zeros(attention.shape, dtype=torch.bool)
        visual[:, first : first + count] = True
        likeness = rule.choose(attention, visual)
        assert likeness.item() == pytest.approx(case[f"out_similarity_{step}"].item(), abs=1e-5)
        assert torch.equal(rule.keep[0].nonzero()[:, 0], case[f"out_kept_{step}"])


def test_an_alike_step_keeps_the_choice_of_the_step_before() -> None:
    [rule] = build("dycoke", {"forget": 0.5}).edits(28)
    visual = torch.tensor([[False, True, True, True, True, False]])
    rule.choose(torch.tensor([[0.1, 0.3, 0.2, 0.1, 0.0, 0.3]]), visual)
    assert rule.keep.tolist() == [[True, True, True, False, False, True]]
    more = torch.tensor([[False, True, True, True, True, False, False]])
    rule.choose(torch.tensor([[0.1, 0.2, 0.1, 0.11, 0.0, 0.2, 0.2]]), more)
    assert rule.keep.tolist() == [[True, True, True, False, False, True, True]]


def generate(model, system, embeds: Tensor, mask: Tensor):
    with edited(model.model, system.edits(5), layout_of(mask)):
        return model.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=5, do_sample=False,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip


def test_a_step_that_sees_few_keys_answers_as_if_it_had_no_others() -> None:
    """Each row of a padded batch equals the row alone, and the cache stays whole."""
    model = qwen2()
    embeds, mask = prompt(model, 2), torch.ones(2, 20, dtype=torch.long)
    mask[0, :4] = 0
    system = build("dycoke", {"forget": 0.8, "layer": 2})
    both = generate(model, system, embeds, mask)
    assert kv_tokens(both.past_key_values) == [24] * 5
    for row, start in ((0, 4), (1, 0)):
        alone = generate(model, system, embeds[row : row + 1, start:], mask[row : row + 1, start:])
        for one, two in zip(both.logits, alone.logits, strict=True):
            torch.testing.assert_close(one[row], two[0], atol=3e-5, rtol=1e-4)


def test_the_prompt_is_read_with_all_keys_and_the_answer_written_with_few() -> None:
    model = qwen2()
    embeds, mask = prompt(model), torch.ones(1, 20, dtype=torch.long)
    none = generate(model, build("dycoke", {"forget": 1.0, "layer": 1}), embeds, mask)
    some = generate(model, build("dycoke", {"forget": 0.5, "layer": 1}), embeds, mask)
    whole = generate(model, build("dycoke", {"forget": 0.0}), embeds, mask)
    assert torch.equal(none.logits[0], whole.logits[0])
    assert not torch.allclose(none.logits[1], some.logits[1])
    assert not torch.allclose(some.logits[1], whole.logits[1])
