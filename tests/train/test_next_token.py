"""Fine-tuning on conversations: every family's loss is plain Hugging Face's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sparsight.train.next_token import NextToken
from sparsight.vlm.families.base import FILM, PICTURE
from tests.systems.test_sweep import RECIPES
from tests.train.families import (
    ANSWER,
    CLIPS,
    NAMES,
    QUESTION,
    Checkpoint,
    dialogue,
    make,
    parts_of,
    plain_loss,
)

NEEDS = {"picture": PICTURE, "film": FILM}
CASES = [  # what the family takes and Hugging Face itself can run
    (name, kind)
    for name in NAMES
    for kind in NEEDS
    if NEEDS[kind] in RECIPES[name].family.supports and kind not in RECIPES[name].beyond
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """`made(family)`: a random checkpoint, made once."""
    known: dict[str, Checkpoint] = {}

    def get(name: str) -> Checkpoint:
        if name not in known:
            known[name] = make(name, tmp_path_factory.mktemp(name))
        return known[name]

    return get


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_loss_is_hugging_faces_and_falls(
    name: str, kind: str, made: Callable[[str], Checkpoint]
):
    one = made(name)
    task = NextToken(parts_of(one), frames="all")
    sample = task.prepare(dialogue(QUESTION, ANSWER, media=[CLIPS[kind]]))
    ids, labels, expected = plain_loss(one, kind)
    assert list(sample.lesson.ids) == ids
    assert list(sample.lesson.labels) == labels
    batch = task.collate([sample])
    loss = task(batch)["next_token"]
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    before = {key: value.clone() for key, value in one.model.state_dict().items()}
    try:
        optimizer = torch.optim.SGD(one.model.parameters(), lr=1e-3)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            assert task(batch)["next_token"] < loss
    finally:
        one.model.load_state_dict(before)
        one.model.zero_grad()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_packed_samples_see_only_themselves(name: str, made: Callable[[str], Checkpoint]):
    one = made(name)
    task = NextToken(parts_of(one), frames="all")
    samples = [
        task.prepare(dialogue("where is the cat ?", "here")),
        task.prepare(dialogue(QUESTION, ANSWER, media=[CLIPS["picture"]])),
    ]
    if FILM in one.family.supports:
        samples.append(task.prepare(dialogue(QUESTION, "a cat .", media=[CLIPS["film"]])))
    alone = [task.predictions([sample]) for sample in samples]
    task.pack = sum(len(sample.lesson.ids) for sample in samples)
    logits, targets = task.predictions(samples)
    assert targets.tolist() == torch.cat([target for _, target in alone]).tolist()
    torch.testing.assert_close(logits, torch.cat([row for row, _ in alone]), rtol=1e-4, atol=1e-4)
    task.pack = max(len(sample.lesson.ids) for sample in samples)  # two rows, one of them padded
    logits, targets = task.predictions(samples)
    assert sorted(targets.tolist()) == sorted(t for _, target in alone for t in target.tolist())


@pytest.mark.parametrize("name", ["llava", "llava-onevision", "qwen2-vl", "smolvlm"])
def test_every_answer_is_learned_with_its_end_and_nothing_else(
    name: str, made: Callable[[str], Checkpoint]
):
    one = made(name)
    task = NextToken(parts_of(one), frames="all")
    talk = dialogue(QUESTION, ANSWER, "where is the cat ?", "here", media=[CLIPS["picture"]])
    lesson = task.prepare(talk).lesson
    ends = {"llava": "</s>", "smolvlm": "<end_of_utterance>"}
    end = ends.get(name, "<|im_end|>")
    words = one.family.tokenizer.decode([label for label in lesson.labels if label >= 0])
    assert words.replace(" ", "") == f"{ANSWER}{end}here{end}".replace(" ", "")


def test_a_batch_weighs_by_tokens_however_it_is_padded(made: Callable[[str], Checkpoint]):
    task = NextToken(parts_of(made("qwen3-vl")), frames="all")
    samples = [
        task.prepare(dialogue(QUESTION, ANSWER, media=[CLIPS["picture"]])),
        task.prepare(dialogue("where ?", "here")),
        task.prepare(dialogue(QUESTION, "a cat .", media=[CLIPS["film"]])),
    ]
    with torch.no_grad():
        batches = [task.collate([sample]) for sample in samples]
        sums = [task(batch)["next_token"] * task.count(batch) for batch in batches]
        whole = task.collate(samples)
        loss = task(whole)["next_token"]
    assert task.count(whole) == sum(task.count(batch) for batch in batches)
    assert len({task.count(batch) for batch in batches}) == 3
    torch.testing.assert_close(loss, sum(sums) / task.count(whole), rtol=1e-5, atol=1e-5)
