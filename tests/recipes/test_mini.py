"""The embedded model: its recipe computes what the class computes, and its weights can see."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from evaluate_mini import EXAMS, Examinee, collect, right_by_task
from mini import packed_logits, see, visual_tokens
from mini_data import make_batch, pack_turns
from mini_model import MINI, PREFIX, TURN, build_model, build_tokenizer


@pytest.fixture(scope="module")
def examinee() -> Examinee:
    return Examinee(MINI, torch.float32)


@pytest.fixture(scope="module")
def recipe_tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize("layout", ["picture", "pair", "film"])
def test_packed_turns_equal_single_prompts_through_the_class(layout, examinee):
    tokenizer, model = examinee.tokenizer, examinee.model
    batch, _ = make_batch(tokenizer, layout, 0, 2)
    with torch.no_grad():
        patches, _ = see(model, batch.pixels)
        visual = visual_tokens(model, patches, layout, 2)
        prefix = torch.tensor(tokenizer.encode(PREFIX))
        packed, targets, _ = packed_logits(model, prefix, visual, batch)
    exam = {"picture": "picture", "pair": "two pictures", "film": "film"}[layout]
    frames = batch.pixels.unflatten(0, (2, -1)).permute(0, 1, 3, 4, 2)
    frames = ((frames + 1) * 127.5).numpy()
    answers = batch.labels != -100
    of_sample, of_turn = answers.nonzero()[:, 0], batch.turn[answers]
    for sample, turn in itertools.product(range(2), range(3)):
        mine = batch.turn[sample] == turn
        ids, labels = batch.ids[sample][mine], batch.labels[sample][mine]
        ask, answer = ids[labels == -100], ids[labels != -100]
        text = tokenizer.decode(ask).removeprefix("\n").split("<|im_end|>")[0]
        inputs = examinee.inputs([(frames[sample], text)], exam, blind=False)
        assert inputs["input_ids"][0, -len(ask) :].tolist() == ask.tolist()
        inputs["input_ids"] = torch.cat((inputs["input_ids"], answer[None]), 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            alone = model(**inputs).logits[0, -len(answer) - 1 : -1]
        rows = (of_sample == sample) & (of_turn == turn)
        assert targets[rows].tolist() == answer.tolist()
        torch.testing.assert_close(packed[rows], alone, atol=2e-3, rtol=1e-3)


def test_shipped_tokenizer_is_the_recipes(examinee, recipe_tokenizer):
    text = "Which comes first, the red circle or the blue letter K? ¿Ω?\n" + TURN.format("Why?")
    assert recipe_tokenizer.encode(text) == examinee.tokenizer.encode(text)
    assert examinee.tokenizer.decode(examinee.tokenizer.encode(text)) == text


def test_shipped_network_is_the_recipes(examinee, recipe_tokenizer):
    fresh = build_model(recipe_tokenizer)
    shipped = {name: p.shape for name, p in examinee.model.named_parameters()}
    assert shipped == {name: p.shape for name, p in fresh.named_parameters()}


def test_chat_template_writes_what_training_packed(examinee):
    prompt = examinee.prompt("Is there a star?", "video", 1)
    assert prompt == PREFIX + "<video>" + TURN.format("Is there a star?")


def test_pack_turns_pads_without_labels(examinee):
    questions = [question for _, question in collect("picture", 1)]
    ids, turn, position, labels, weight = pack_turns(examinee.tokenizer, [questions, questions[:1]])
    assert ids.shape == turn.shape == position.shape == labels.shape == weight.shape
    assert (labels[turn == -1] == -100).all()
    assert (position[1][turn[1] == 0] == torch.arange(int((turn[1] == 0).sum()))).all()


@pytest.mark.parametrize(("exam", "at_least"), [("picture", 0.9), ("film", 0.9)])
def test_held_out_questions_are_answered_and_text_alone_is_not_enough(exam, at_least, examinee):
    items = collect(exam, 20, split="test")
    right = right_by_task(examinee, items, exam)
    assert set(right) == set(EXAMS[exam][0])
    accuracy = np.mean([ok for rows in right.values() for ok in rows])
    assert accuracy >= at_least
    blind = right_by_task(examinee, items, exam, blind=True)
    assert np.mean([ok for rows in blind.values() for ok in rows]) < 0.4


def test_scores_beside_the_weights_hold_every_task():
    report = json.loads((MINI / "scores.json").read_text())
    for exam, (tasks, _, _) in EXAMS.items():
        for task in tasks:
            assert report["runs"][exam]["float32"][task]["n"] >= 250
    assert report["overall"]["float32"]["accuracy"] >= 0.9
    assert (
        abs(report["overall"]["float32"]["accuracy"] - report["overall"]["bfloat16"]["accuracy"])
        < 0.01
    )
    assert report["overall"]["text_only"]["accuracy"] < 0.4
