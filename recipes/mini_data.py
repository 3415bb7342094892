"""Training batches of the embedded model: rendered views, dense labels, packed questions.

Shapes: B samples, V views, N patches of a view, L sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from mini_model import GRID, PATCH, SEED, TURN
from mini_questions import Question, questions
from mini_render import frame_times, render_with_owners
from mini_scenes import COLORS, KINDS, SIDE, Scene, sample_crowd, sample_scene
from torch import Tensor
from transformers import PreTrainedTokenizerFast

CROWDED = UNKNOWN = -100  # ignored by the losses
MOTIONS = ("still", "left", "right", "up", "down")
EASY = ("color", "shape", "letter")  # learned in minutes, so half of these questions are left out
WEIGHT = {"where": 2.0, "move": 4.0, "first": 4.0}  # learned last, so these answers weigh more


@dataclass
class LookLabels:
    """Truth of V views: `color`, `kind` (V, N) with 0 for background, `center` (V, N, 2) in
    0..1, `present` (V, colors + kinds) in {0, 1}, `count` (V,) or CROWDED above four; and for the
    4 x 4 tokens that a film keeps of a frame `motion` (V, 16), 0 for background and UNKNOWN while
    the thing has hardly been seen, `cell_center` (V, 16, 2), and `appear` (V, 16), its time."""

    color: Tensor
    kind: Tensor
    center: Tensor
    present: Tensor
    count: Tensor
    motion: Tensor
    cell_center: Tensor
    appear: Tensor


def look_labels(scenes: list[Scene], owners: list[np.ndarray]) -> LookLabels:
    """Dense truth from who owns each pixel: a patch belongs to the thing with most of it, if
    that is at least an eighth of the patch."""
    tables: dict[str, list] = {field.name: [] for field in fields(LookLabels)}
    ys, xs = np.mgrid[0:SIDE, 0:SIDE]
    patch_of_pixel = ys // PATCH * GRID + xs // PATCH
    for scene, owner in zip(scenes, owners, strict=True):
        views, slots = len(owner), len(scene.things) + 1
        view = np.arange(views)[:, None, None]
        slot = (view * slots + owner).ravel()
        cell = ((view * GRID * GRID + patch_of_pixel) * slots + owner).ravel()
        area = np.bincount(cell, minlength=views * GRID * GRID * slots)
        area = area.reshape(views, GRID * GRID, slots)[..., 1:]  # pixels of each thing
        best = np.where(area.max(-1) >= PATCH * PATCH / 8, area.argmax(-1) + 1, 0)
        colors = np.array([0] + [list(COLORS).index(t.color) + 1 for t in scene.things])
        kinds = np.array([0] + [KINDS.index(t.kind) + 1 for t in scene.things])
        size = np.bincount(slot, minlength=views * slots)
        centers = np.stack(
            [
                np.bincount(slot, np.tile(axis.ravel(), views), views * slots) / np.maximum(size, 1)
                for axis in (xs, ys)
            ],
            axis=-1,
        ).reshape(views, slots, 2)
        visible = size.reshape(views, slots)[:, 1:] > 0
        present = np.zeros((views, len(COLORS) + len(KINDS)))
        for index in range(1, slots):
            present[visible[:, index - 1], colors[index] - 1] = 1
            present[visible[:, index - 1], len(COLORS) + kinds[index] - 1] = 1
        tables["color"].append(colors[best])
        tables["kind"].append(kinds[best])
        tables["center"].append(np.take_along_axis(centers, best[..., None], 1) / SIDE)
        tables["present"].append(present)
        count = visible.sum(1)
        tables["count"].append(np.where(count > 4, CROWDED, count))

        half = GRID // 2
        area = area.reshape(views, half, 2, half, 2, slots - 1).sum((2, 4))
        area = area.reshape(views, half * half, slots - 1)
        best = np.where(area.max(-1) >= PATCH * PATCH / 2, area.argmax(-1) + 1, 0)
        motions = np.array([0] + [MOTIONS.index(t.motion) + 1 for t in scene.things])
        appear = np.array([0.0] + [t.appear for t in scene.things])[best]
        fresh = np.array(frame_times(views))[:, None] - appear < 0.2
        tables["motion"].append(np.where(fresh & (best > 0), UNKNOWN, motions[best]))
        tables["appear"].append(appear)
        tables["cell_center"].append(np.take_along_axis(centers, best[..., None], 1) / SIDE)
    joined = {name: torch.from_numpy(np.concatenate(rows)) for name, rows in tables.items()}
    for name in ("center", "present", "cell_center", "appear"):
        joined[name] = joined[name].float()
    return LookLabels(**joined)


def to_pixels(frames: np.ndarray) -> Tensor:
    """(V, H, W, 3) uint8 -> (V, 3, H, W) float in -1..1, as the image processor does."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def augment(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Now and then other light, contrast or softness, as films met in the wild have."""
    if rng.random() < 0.5:
        pixels = pixels * rng.uniform(0.8, 1.15) + rng.uniform(-0.12, 0.12)
    if rng.random() < 0.25:
        across = (pixels + pixels.roll(1, -1)) / 2
        pixels = (across + across.roll(1, -2)) / 2
    return pixels.clamp(-1, 1)


@dataclass
class Batch:
    """B samples of one layout and their questions.

    Layouts: "picture" (base view and one tile), "view" (one view), "pair" (two pictures of one
    view each), "film", or "crowd" (one view, mostly crowds, not asked about). `pixels` is
    (B * views of a sample, 3, H, W). The packed turns, all (B, L): `ids`, `turn` (which question
    a token belongs to, -1 for padding), `position` (counted from the end of the visual tokens),
    `labels` (-100 outside answers) and `weight` (of the answer's task). `tasks` names the task of
    each question.
    """

    layout: str
    pixels: Tensor
    look: LookLabels
    ids: Tensor
    turn: Tensor
    position: Tensor
    labels: Tensor
    weight: Tensor
    tasks: list[list[str]]


def make_batch(
    tokenizer: PreTrainedTokenizerFast, layout: str, first_seed: int, size: int, frames: int = 8
) -> tuple[Batch, int]:
    """The next `size` samples of the train split, and how many scenes they used."""
    rng = np.random.default_rng([SEED, first_seed])
    used = 2 * size if layout == "pair" else size
    scenes = [
        sample_crowd(first_seed + i, "train")
        if layout == "crowd" and i % 4
        else sample_scene(first_seed + i, "train", film=layout == "film", frames=frames)
        for i in range(used)
    ]
    rendered = [render_with_owners(scene) for scene in scenes]
    pixels = torch.cat([augment(to_pixels(film), rng) for film, _ in rendered])
    asked = [
        [q for q in questions(scene, rng) if q.task not in EASY or rng.random() < 0.5]
        if layout != "crowd"
        else []
        for scene in scenes
    ]
    if layout == "pair":
        asked = [
            [
                *(_in_picture(question, "first") for question in asked[i][:4]),
                *(_in_picture(question, "second") for question in asked[i + 1][:4]),
            ]
            for i in range(0, used, 2)
        ]
    turns = pack_turns(tokenizer, [row[:10] for row in asked])
    tasks = [[question.task for question in row[:10]] for row in asked]
    look = look_labels(scenes, [owner for _, owner in rendered])
    return Batch(layout, pixels, look, *turns, tasks), used


def _in_picture(question: Question, which: str) -> Question:
    text = f"{question.text[:-1]} in the {which} picture{question.text[-1]}"
    return Question(question.task, text, question.answer, question.choices)


def pack_turns(
    tokenizer: PreTrainedTokenizerFast, asked: list[list[Question]]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Questions and answers of each sample in a row: the packed turns of a Batch, (B, L)."""
    everything = [question for sample in asked for question in sample]
    texts = [TURN.format(q.text) for q in everything]
    texts += [f"{q.answer}<|im_end|>" for q in everything]
    encoded = tokenizer(texts)["input_ids"] if texts else []
    asks, answers = iter(encoded[: len(everything)]), iter(encoded[len(everything) :])
    rows = []
    for sample in asked:
        ids, turn, position, labels, weight = [], [], [], [], []
        for index, question in enumerate(sample):
            ask, answer = next(asks), next(answers)
            ids += ask + answer
            turn += [index] * (len(ask) + len(answer))
            position += range(len(ask) + len(answer))
            labels += [-100] * len(ask) + answer
            weight += [WEIGHT.get(question.task, 1.0)] * (len(ask) + len(answer))
        rows.append((ids, turn, position, labels, weight))
    length = -(-max(len(row[0]) for row in rows) // 16) * 16
    fills = (tokenizer.pad_token_id, -1, 0, -100, 0.0)
    columns = [
        torch.tensor([row[k] + [fill] * (length - len(row[k])) for row in rows])
        for k, fill in enumerate(fills)
    ]
    return columns[0], columns[1], columns[2], columns[3], columns[4]
