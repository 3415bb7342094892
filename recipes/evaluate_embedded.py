"""Examine an embedded model on held-out scenes and write scores.json beside its weights.

    python recipes/evaluate_embedded.py sparsight/world/mini
    python recipes/evaluate_embedded.py out/mini --questions 200 --tasks color,move

Every score has its 95 % interval and stands beside what the words alone give away: the best
text-only predictor fitted on training questions ("prior"), and the model itself asked without the
picture or film ("blind").
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import sparsight
from sparsight.measure.machine import machine
from sparsight.measure.statistics import wilson
from sparsight.world.exam import exam, prior
from sparsight.world.examine import examine

#: Tasks, and the frames they are shown in where that is not the exam's own choice.
PICTURES = ("exists", "color", "shape", "count", "where", "read", "box", "region")
FILMS = ("move", "order", "state", "repeat", "when", "needle", "cause", "summary", "caption")
BATCH = {"needle": 2}


def main() -> None:
    options = arguments()
    jobs = [(task, split) for task in options.tasks for split in options.splits]
    scores: dict[str, Any] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for (task, split), found in zip(
            jobs,
            pool.map(examined, *zip(*[(options, *job) for job in jobs], strict=True)),
            strict=True,
        ):
            scores.setdefault(split, {})[task] = found
            low, high = found["interval"]
            print(
                f"{split:7} {task:8} {100 * found['accuracy']:5.1f} % "
                f"({100 * low:.1f} to {100 * high:.1f}), blind {100 * found['blind']:.1f}, "
                f"prior {100 * found['prior']:.1f}",
                flush=True,
            )
    result = {"machine": machine(), "dtype": options.dtype, "side": options.side, "scores": scores}
    (options.out or options.model / "scores.json").write_text(json.dumps(result, indent=1) + "\n")


def examined(options: argparse.Namespace, task: str, split: str) -> dict[str, Any]:
    """One exam, in a process of its own."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.processes))
    vlm = sparsight.load(str(options.model), dtype=options.dtype, device=options.device)
    items = list(exam(task, split, options.questions, seed=options.seed))
    batch = BATCH.get(task, 8)
    found = list(examine(vlm, items, side=options.side, batch=batch))
    few = list(islice(items, max(1, options.questions // 4)))
    blind = list(examine(vlm, few, side=options.side, batch=32, blind=True))
    right = sum(outcome.right for outcome in found)
    made: dict[str, Any] = {
        "questions": len(found),
        "accuracy": right / len(found),
        "interval": wilson(right, len(found)),
        "blind": sum(outcome.right for outcome in blind) / len(blind),
        "prior": prior(task).score(items),
        "visual": sum(outcome.visual for outcome in found) / len(found),
    }
    groups: dict[str, list[bool]] = {}
    for outcome in found:
        size = getattr(outcome.question, "size", "")
        if size:
            groups.setdefault(size, []).append(outcome.right)
    if groups:
        made["by_size"] = {name: sum(row) / len(row) for name, row in sorted(groups.items())}
    wrong = [outcome for outcome in found if not outcome.right][:5]
    made["wrong"] = [[o.question.text, o.question.answer, o.reply] for o in wrong]
    return made


def arguments() -> argparse.Namespace:
    def words(text: str) -> tuple[str, ...]:
        return tuple(word for word in text.split(",") if word)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tasks", type=words, default=(*PICTURES, *FILMS))
    parser.add_argument("--splits", type=words, default=("test",))
    parser.add_argument("--questions", type=int, default=2000, help="a task")
    parser.add_argument("--side", type=int, default=112, help="pixels of the shorter side")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", help="by default a GPU if there is one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
