"""Batches for training the embedded models: scenes, what is asked about them, as tensors.

Item i of a dataset is a whole batch of one layout and a function of i alone, so that a resumed run
sees what an uninterrupted one would. Pixels are painted later, where the network is.

Shape suffixes: B samples, V views, L sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from embedded_models import PREFIX, SIDE, TURN
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from sparsight.world.sampler import sample_scene
from sparsight.world.scene import Scene
from sparsight.world.stories import STORIES
from sparsight.world.tasks import SEEN, questions
from sparsight.world.tasks.question import Question

MOST_TURNS = 12
MOST_STILL = 4  # questions about a film that a picture could answer, and captions
CHANGES = ("move", "order", "repeat", "when", "state", "needle", "cause")
T = TypeVar("T")


@dataclass(frozen=True)
class Layout:
    """How the samples of a batch are shown: `kind` "view" (one view, tower only), "picture",
    "pair" (two pictures) or "film"; `frames` of a film, of which one asks what a picture does, at
    an eighth of its tokens; `side` in pixels; `batch` samples."""

    kind: str
    batch: int
    frames: int = 1
    side: int = SIDE


@dataclass
class Turns:
    """Packed questions and answers, all (B, L): `ids`, `turn` (which question a token belongs to,
    -1 for padding), `position` (counted from the end of the visual tokens), `labels` (-100
    outside answers) and `weight` (of the answer's task)."""

    ids: Tensor
    turn: Tensor
    position: Tensor
    labels: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Turns:
        return Turns(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass
class Batch:
    """One batch: the scenes with the instants that are shown of each, what is asked about each
    sample, packed by `turns` once a tokenizer is at hand, and the seed of its augmentation."""

    layout: Layout
    shots: list[tuple[Scene, np.ndarray]]
    asked: list[list[Question]]
    weights: Mapping[str, float]
    seed: int
    turns: Turns | None = None


@dataclass(frozen=True)
class Mix:
    """What a stage is shown: layouts with their shares, the tasks that scenes are made for, still
    ones and such that change, with theirs, and weights of answers by task."""

    layouts: Mapping[Layout, float]
    picture_tasks: Mapping[str, float]
    film_tasks: Mapping[str, float]
    weights: Mapping[str, float]


class Scenes(Dataset[Batch]):
    """Batches without end: item i comes from scenes that no other item uses. Items 2i and 2i + 1
    have one layout, so that two processes, which take turns, need as long for a step."""

    def __init__(self, mix: Mix, first_seed: int, asking: bool = True) -> None:
        self.mix, self.first_seed, self.asking = mix, first_seed, asking

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.first_seed, index])
        layout = _draw(self.mix.layouts, np.random.default_rng([self.first_seed, index // 2, 1]))
        shares = self.mix.film_tasks if layout.frames > 1 else self.mix.picture_tasks
        shares = {task: s for task, s in shares.items() if STORIES[task].frames <= layout.frames}
        most = max(layout.batch for layout in self.mix.layouts)
        first = self.first_seed + index * 2 * most
        shots, asked = [], []
        for place in range(layout.batch * (2 if layout.kind == "pair" else 1)):
            task = _draw(shares, rng)
            scene = sample_scene(first + place, "train", task, frames=layout.frames)
            shots.append((scene, scene.times))
            asked.append(_asked(scene, rng, layout) if self.asking else [])
        if layout.kind == "pair":
            asked = [
                [
                    *(_in_picture(question, "first") for question in asked[i][: MOST_TURNS // 2]),
                    *(_in_picture(question, "second") for question in asked[i + 1][:6]),
                ]
                for i in range(0, len(asked), 2)
            ]
        asked = [row[:MOST_TURNS] for row in asked]
        return Batch(layout, shots, asked, self.mix.weights, int(rng.integers(2**31)))


def _asked(scene: Scene, rng: np.random.Generator, layout: Layout) -> list[Question]:
    """What is asked about a scene: of a film above all what changes in it, which is little."""
    if layout.frames == 1:
        return questions(scene, rng)
    still = [task for task in SEEN if task not in CHANGES]
    changes = questions(scene, rng, CHANGES, most=4)
    return changes + questions(scene, rng, still, most=1)[:MOST_STILL]


def _draw(shares: Mapping[T, float], rng: np.random.Generator) -> T:
    names, weights = list(shares), np.array(list(shares.values()), float)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _in_picture(question: Question, which: str) -> Question:
    text = question.text
    text = f"{text[:-1]} in the {which} picture{text[-1]}"
    return replace(question, text=text, about=())


def pack_turns(
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[Sequence[Question]],
    weights: Mapping[str, float],
) -> Turns:
    """Questions and answers of each sample in a row, (B, L)."""
    everything = [question for sample in asked for question in sample]
    texts = [TURN.format(q.text) for q in everything]
    texts += [f"{q.answer}<|im_end|>" for q in everything]
    encoded = tokenizer(texts)["input_ids"] if texts else []
    asks, answers = iter(encoded[: len(everything)]), iter(encoded[len(everything) :])
    rows = []
    for sample in asked:
        ids: list[int] = []
        turn: list[int] = []
        position: list[int] = []
        labels: list[int] = []
        weight: list[float] = []
        for index, question in enumerate(sample):
            ask, answer = next(asks), next(answers)
            size = len(ask) + len(answer)
            ids += ask + answer
            turn += [index] * size
            position += range(size)
            labels += [-100] * len(ask) + answer
            # Every question weighs the same, however long its answer.
            weight += [weights.get(question.task, 1.0) / len(answer)] * size
        rows.append((ids, turn, position, labels, weight))
    length = -(-max(1, *(len(row[0]) for row in rows)) // 16) * 16
    fills = (tokenizer.pad_token_id, -1, 0, -100, 0.0)
    columns = [
        torch.tensor([[*row[k], *[fill] * (length - len(row[k]))] for row in rows])
        for k, fill in enumerate(fills)
    ]
    return Turns(*columns)


def prefix_ids(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    return torch.tensor(tokenizer.encode(PREFIX))


def to_pixels(frames: Tensor) -> Tensor:
    """(V, H, W, 3) uint8 -> (V, 3, H, W) float in -1..1, as the image processor does."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def augment(pixels: Tensor, views: Sequence[int], seed: int) -> Tensor:
    """Now and then other light, contrast or softness, the same for all views of a sample, as
    pictures met in the wild have. `views` says how many views each sample has."""
    rng = np.random.default_rng(seed)
    done = []
    for part in pixels.split(list(views)):
        if rng.random() < 0.4:
            part = part * rng.uniform(0.85, 1.12) + rng.uniform(-0.1, 0.1)
        if rng.random() < 0.15:
            across = (part + part.roll(1, -1)) / 2
            part = (across + across.roll(1, -2)) / 2
        done.append(part)
    return torch.cat(done).clamp(-1, 1)
