"""Examine the embedded model on held-out scenes, with plain transformers and nothing of Sparsight.

    python recipes/evaluate_mini.py                      # writes scores.json beside the weights
    python recipes/evaluate_mini.py --questions 100

Every score stands beside a run of the same questions without any visual token ("text_only") and
beside the best constant answer ("constant").
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from mini_data import to_pixels
from mini_model import MINI
from mini_questions import FILM_TASKS, PICTURE_TASKS, Question, questions, score
from mini_render import render
from mini_scenes import sample_scene
from torch import Tensor
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration

# name, tasks, frames of a scene, pictures in the prompt
EXAMS = {
    "picture": (PICTURE_TASKS, 1, 1),
    "film": (FILM_TASKS, 8, 1),
    "film of 4": (FILM_TASKS, 4, 1),
    "film of 16": (FILM_TASKS, 16, 1),
    "two pictures": (PICTURE_TASKS, 1, 2),
}
MAIN = ("picture", "film")


def collect(exam: str, per_task: int, split: str = "test") -> list[tuple[np.ndarray, Question]]:
    """(frames (T, H, W, 3) uint8, question) pairs, exactly `per_task` of each task."""
    tasks, frames, pictures = EXAMS[exam]
    left = dict.fromkeys(tasks, per_task)
    items, seed = [], 0
    while any(left.values()):
        rng = np.random.default_rng([7, seed])
        scenes = [
            sample_scene(seed + i, split, film=frames > 1, frames=frames) for i in range(pictures)
        ]
        seed += pictures
        films, which = None, int(rng.integers(pictures))
        for question in questions(scenes[which], rng):
            if left[question.task] == 0:
                continue
            left[question.task] -= 1
            if films is None:
                films = np.concatenate([render(scene) for scene in scenes])
            if pictures > 1:
                place = ("first", "second")[which]
                text = f"{question.text[:-1]} in the {place} picture{question.text[-1]}"
                question = Question(question.task, text, question.answer, question.choices)
            items.append((films, question))
    return items


class Examinee:
    """The model as anybody loads it, asked in batches of prompts that share one medium layout."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        self.model = model.eval()

    def prompt(self, question: str, media: str, count: int) -> str:
        parts = [{"type": media}] * count + [{"type": "text", "text": question}]
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
        )

    def inputs(self, batch: list[tuple[np.ndarray, str]], exam: str, blind: bool) -> dict:
        """Tensors for `generate`: left-padded ids with every placeholder expanded, and pixels."""
        _, frames, pictures = EXAMS[exam]
        if blind:
            prompts = [self.prompt(text, "none", 0) for _, text in batch]
            return dict(self.tokenizer(prompts, padding=True, return_tensors="pt"))
        media = "video" if frames > 1 else "image"
        tokens = 16 * frames + 1 if frames > 1 else 136 if pictures == 1 else 65
        prompts = [
            self.prompt(text, media, pictures).replace(f"<{media}>", f"<{media}>" * tokens)
            for _, text in batch
        ]
        inputs = dict(self.tokenizer(prompts, padding=True, return_tensors="pt"))
        pixels = torch.stack([to_pixels(film) for film, _ in batch]).to(self.model.dtype)
        if frames > 1:
            return {**inputs, "pixel_values_videos": pixels}
        samples, side = len(batch) * pictures, pixels.shape[-1]
        # One picture stands twice in the prompt: as the base view and as its only tile.
        views = pixels.flatten(0, 1)[:, None].expand(-1, 2 if pictures == 1 else 1, -1, -1, -1)
        return {
            **inputs,
            "pixel_values": views,
            "image_sizes": torch.full((samples, 2), side),
            "batch_num_images": torch.full((len(batch),), pictures),
        }

    @torch.inference_mode()
    def answers(
        self, batch: list[tuple[np.ndarray, str]], exam: str, blind: bool = False
    ) -> list[str]:
        inputs = self.inputs(batch, exam, blind)
        output: Tensor = self.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        return self.tokenizer.batch_decode(new, skip_special_tokens=True)


def right_by_task(
    examinee: Examinee, items: list[tuple[np.ndarray, Question]], exam: str, blind: bool = False
) -> dict[str, list[bool]]:
    """For each task, whether each of its questions was answered exactly."""
    right: dict[str, list[bool]] = {}
    for start in range(0, len(items), 32):
        batch = items[start : start + 32]
        replies = examinee.answers([(film, q.text) for film, q in batch], exam, blind)
        for (_, question), reply in zip(batch, replies, strict=True):
            right.setdefault(question.task, []).append(score(question, reply))
    return right


def interval(right: list[bool]) -> dict[str, float | int | list[float]]:
    """Accuracy with its 95 % Wilson interval."""
    n, p, z = len(right), float(np.mean(right)), 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return {
        "accuracy": round(p, 4),
        "ci95": [round(centre - half, 4), round(centre + half, 4)],
        "n": n,
    }


def constant_answer(items: list[tuple[np.ndarray, Question]]) -> dict[str, float]:
    """For each task, how often its commonest answer is right; where the choices stand in the
    question itself, the better of naming always the first or always the second."""
    by_task: dict[str, Counter] = {}
    for _, question in items:
        key = question.answer
        if question.task == "first":
            key = str(question.choices.index(question.answer))
        by_task.setdefault(question.task, Counter())[key] += 1
    return {task: max(seen.values()) / sum(seen.values()) for task, seen in by_task.items()}


def table(report: dict) -> str:
    """The report as a Markdown table, one row a task."""
    lines = [
        "| exam | task | accuracy (95 % interval) | bf16 | text only | constant | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for exam, runs in report["runs"].items():
        for task, seen in runs["float32"].items():
            low, high = seen["ci95"]
            others = [
                f"{100 * runs[run][task]['accuracy']:.1f}" if run in runs else ""
                for run in ("bfloat16", "text_only")
            ]
            constant = f"{100 * runs['constant'][task]:.1f}" if task in runs["constant"] else ""
            score = f"{100 * seen['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
            cells = [exam, task, score, *others, constant, str(seen["n"])]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MINI)
    parser.add_argument("--questions", type=int, default=250, help="questions a task")
    parser.add_argument("--out", type=Path, help="default: scores.json beside the weights")
    args = parser.parse_args()
    report: dict = {"split": "test", "questions_a_task": args.questions, "runs": {}}
    model = Examinee(args.model, torch.float32)
    half = Examinee(args.model, torch.bfloat16)
    totals: dict[str, list[bool]] = {}
    for exam in EXAMS:
        items = collect(exam, args.questions)
        runs = {"float32": right_by_task(model, items, exam)}
        if exam in MAIN:
            runs["bfloat16"] = right_by_task(half, items, exam)
            runs["text_only"] = right_by_task(model, items, exam, blind=True)
        everything = {run: [r for rows in by.values() for r in rows] for run, by in runs.items()}
        report["runs"][exam] = {
            run: {"all": interval(everything[run])}
            | {task: interval(rows) for task, rows in sorted(by_task.items())}
            for run, by_task in runs.items()
        } | {"constant": {task: round(p, 4) for task, p in sorted(constant_answer(items).items())}}
        for run, rows in everything.items():
            if exam in MAIN:
                totals.setdefault(run, []).extend(rows)
        print(exam, {run: round(float(np.mean(rows)), 4) for run, rows in everything.items()})
    report["overall"] = {run: interval(rows) for run, rows in totals.items()}
    print("overall", report["overall"])
    print(table(report))
    out = args.out or args.model / "scores.json"
    out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
