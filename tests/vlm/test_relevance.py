"""Explaining answers, and the signal that reducers are given of the whole prompt."""

from __future__ import annotations

import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.llm.attention import probe
from sparsight.llm.cache import kv_tokens
from sparsight.vlm.pipeline import VLM
from sparsight.vlm.prompt import pad
from sparsight.vlm.relevance import explain
from tests.vlm.tiny import QUESTION, TALL, WIDE, movie, user


def test_each_medium_of_a_prompt_is_explained(vlm: VLM) -> None:
    messages = [user(WIDE, movie(), QUESTION)]
    reply = vlm.chat(messages, max_tokens=3)
    before = {name: value.clone() for name, value in vlm.family.model.state_dict().items()}
    found = explain(vlm, messages, reply.tokens)
    assert [len(item.relevance) for item in found] == [
        int((medium.view >= 0).sum()) for medium in reply.maps
    ]
    for item in found:
        assert item.attention.shape == item.relevance.shape
        assert (item.relevance >= 0).all()
        assert item.relevance.max() > 0
        assert (item.attention > 0).all()
    after = vlm.family.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_words_of_an_answer_count_alike(vlm: VLM) -> None:
    messages, [one, two] = [user(WIDE, QUESTION)], (60, 61)
    [both] = explain(vlm, messages, [one, two])
    [first] = explain(vlm, messages, [one])
    # The second word alone, behind the first.
    second = 2 * both.relevance - first.relevance
    assert (second >= -1e-6).all()
    assert second.max() > 0


def test_what_cannot_be_explained_is_refused(vlm: VLM) -> None:
    with pytest.raises(UserError, match="leave out its systems"):
        explain(vlm.using("uniform"), [user(WIDE, QUESTION)], [60])
    with pytest.raises(UserError, match="no answer to explain"):
        explain(vlm, [user(WIDE, QUESTION)], [vlm.family.tokenizer.eos_token_id])


@torch.inference_mode()
def test_reducers_are_told_what_the_question_looks_at(vlm: VLM) -> None:
    """The signal is that of the unreduced prompt, from layer 0 as it runs."""
    messages = [user(WIDE, movie(), QUESTION)]
    fast = vlm.using("explain-compress", keep=0.5)
    [prepared] = fast.prepare([messages])
    [whole] = vlm.prepare([messages])
    batch = pad([whole.prompt], whole.prompt.embeds[0])
    layout = vlm.layout(batch)
    with probe(vlm.family.decoder, {0: layout.words[0].nonzero()[:, 0]}, "mean") as scores:
        vlm.family.model(inputs_embeds=batch.embeds, position_ids=batch.positions)
    expected = scores[0][0].mean(0)
    for place, medium in enumerate(prepared.media):
        signal = medium.full.signals["question_attention"][:, 0]
        torch.testing.assert_close(signal, expected[whole.prompt.medium == place])
        assert int(medium.kept.prunable.sum()) == round(0.5 * int(medium.full.prunable.sum()))


def test_every_layer_holds_the_kept_tokens_alone(vlm: VLM) -> None:
    fast = vlm.using("explain-compress", keep=4)
    with torch.inference_mode():
        [prepared] = fast.prepare([[user(TALL, QUESTION)]])
        batch = pad([prepared.prompt], prepared.prompt.embeds[0])
        out = vlm.family.model(inputs_embeds=batch.embeds, position_ids=batch.positions)
    separators = int((~prepared.media[0].kept.prunable).sum())
    text = int((prepared.prompt.medium < 0).sum())
    assert kv_tokens(out.past_key_values) == [text + separators + 4] * 5
    assert prepared.prompt.positions[0].tolist() == list(range(len(prepared.prompt)))


def test_other_questions_keep_other_tokens(vlm: VLM) -> None:
    fast = vlm.using("explain-compress", keep=0.3)
    kept = [
        fast.ask(movie(), question, max_tokens=1).maps[0].kept.tolist()
        for question in (QUESTION, "where is the red cat ?")
    ]
    assert kept[0] != kept[1]


def test_tokens_without_a_prompt_are_refused_in_one_line(vlm: VLM) -> None:
    with pytest.raises(UserError, match="explain-compress reads the whole prompt: ask a question"):
        vlm.using("explain-compress").encode(WIDE)
