from __future__ import annotations

import pytest

from sparsight.core.errors import UserError
from sparsight.vlm.pipeline import VLM
from sparsight.vlm.visual_flow import measure
from tests.vlm.tiny import QUESTION, WIDE, movie, user


def test_a_model_is_measured_on_conversations(vlm: VLM) -> None:
    talks = [[user(movie(), QUESTION)], [user(movie(2, seed=3), "where is the cat ?")]]
    flow = measure(vlm, talks)
    one, two = (measure(vlm, [talk]) for talk in talks)
    assert flow.to_text.shape == flow.among.shape == flow.effective.shape == (5,)
    for name in ("to_text", "among", "effective"):
        mean, parts = getattr(flow, name), [getattr(item, name) for item in (one, two)]
        assert ((mean > 0) & (mean <= 1)).all()
        assert mean.tolist() == pytest.approx(((parts[0] + parts[1]) / 2).tolist())


@pytest.mark.parametrize("layer", [1, 3])
def test_what_is_measured_of_a_prompt_is_what_the_prompt_keeps(vlm: VLM, layer: int) -> None:
    flow = measure(vlm, [[user(movie(), QUESTION)]], eps=0.2)
    fast = vlm.using("adatoken-3d", layers=(layer,), eps=0.2, floor=0.0)
    [item] = fast.ask(movie(), QUESTION, max_tokens=1).maps
    lived = item.layers[item.kept_view >= 0]
    assert (lived == 5).float().mean().item() == pytest.approx(flow.effective[layer - 1].item())
    assert sorted(set(lived.tolist())) == [layer, 5]


def test_systems_before_the_llm_take_part(vlm: VLM) -> None:
    talk = [[user(WIDE, QUESTION)]]
    whole, few = measure(vlm, talk), measure(vlm.using("uniform", keep=3), talk)
    assert (few.to_text < whole.to_text).all()


def test_what_says_nothing_is_refused(vlm: VLM) -> None:
    with pytest.raises(UserError, match="fastv drops tokens inside the LLM"):
        measure(vlm.using("fastv"), [[user(WIDE, QUESTION)]])
    with pytest.raises(UserError, match="without media"):
        measure(vlm, [[user("where is the cat ?")]])
    with pytest.raises(UserError, match="no conversation"):
        measure(vlm, [])
