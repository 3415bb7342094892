"""What a system keeps and loses, task by task, on films and pictures whose every pixel is known.

    python benchmarks/quality.py
    python benchmarks/quality.py --systems fastervlm,fastv --keep 0.5,0.1 --tasks color,move

Every system is asked the same questions of the test split at every budget, beside the full model,
random, uniform, pool and downsample. A row is a system at a budget on a task: accuracy with its
95 % interval, the text-only prior, agreement with the full model's answers (loyalty), visual
tokens averaged over the LLM's layers, operations and seconds a question. Rows are written as they
come, and an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from writing import where_measured, write_json

import sparsight
from sparsight.core.plan import Plan, parse_system
from sparsight.core.registry import entry
from sparsight.measure.machine import machine
from sparsight.measure.statistics import wilson
from sparsight.systems import load as load_systems
from sparsight.vlm.pipeline import VLM
from sparsight.world.exam import Item, exam, prior
from sparsight.world.examine import Outcome, examine

BASELINES = ("random", "uniform", "pool", "downsample")
PICTURE_TASKS = ("exists", "color", "shape", "count", "where", "read")
FILM_TASKS = ("move", "order", "state", "repeat", "when", "needle")
FULL = "full"


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    load_systems()
    vlm = sparsight.load(options.model, dtype=options.dtype, device=options.device)
    kept = Rows(options)
    for task in options.tasks:
        items = list(exam(task, "test", options.count, seed=options.seed))
        blind = prior(task).score(items)
        answers: list[str] = []
        for name in (FULL, *BASELINES, *options.systems):
            for keep in budgets(name, options.keep):
                row = kept.find(task, name, keep)
                if row is None:
                    found = ask(vlm, name, keep, items, options)
                    answers = answers or [outcome.reply for outcome in found]
                    row = kept.add(task, name, keep, measured(found, answers, blind))
                elif name == FULL:
                    answers = row["replies"]
                print(line(row), flush=True)
    kept.finish()
    print(table(kept.rows, options))


def budgets(name: str, keeps: Sequence[float]) -> Sequence[float | None]:
    """The budgets that a system is run at: a system without `keep` has its published setting."""
    return keeps if name != FULL and "keep" in entry(name).knobs else (None,)


def ask(
    vlm: VLM, name: str, keep: float | None, items: list[Item], options: argparse.Namespace
) -> list[Outcome]:
    if name != FULL:
        system = parse_system(name if keep is None else f"{name}:keep={keep}")
        vlm = vlm.planned(Plan(systems=(system,)))
    return list(examine(vlm, items, side=options.side, batch=options.batch))


def measured(found: list[Outcome], full: Sequence[str], blind: float) -> dict[str, Any]:
    right = sum(outcome.right for outcome in found)
    same = sum(outcome.reply == reply for outcome, reply in zip(found, full, strict=True))
    count = len(found)
    return {
        "questions": count,
        "accuracy": right / count,
        "interval": wilson(right, count),
        "prior": blind,
        "loyalty": same / count,
        "visual": sum(outcome.visual for outcome in found) / count,
        "flops": sum(outcome.flops for outcome in found) / count,
        "seconds": sum(outcome.seconds for outcome in found) / count,
        "replies": [outcome.reply for outcome in found],
    }


class Rows:
    """The table as it grows, on disk after every row."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.path = options, options.out.with_suffix(".part.json")
        self.settings = {
            name: value
            for name, value in vars(options).items()
            if name in ("model", "dtype", "side", "count", "seed")
        }
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            saved = json.loads(self.path.read_text())
            if saved["settings"] == self.settings:
                self.rows = saved["rows"]

    def find(self, task: str, name: str, keep: float | None) -> dict[str, Any] | None:
        wanted = (task, name, keep)
        rows = (row for row in self.rows if (row["task"], row["system"], row["keep"]) == wanted)
        return next(rows, None)

    def add(
        self, task: str, name: str, keep: float | None, values: dict[str, Any]
    ) -> dict[str, Any]:
        row = {"task": task, "system": name, "keep": keep, **values}
        self.rows.append(row)
        write_json(self.path, {"settings": self.settings, "rows": self.rows})
        return row

    def finish(self) -> None:
        """The results without the single replies, the table and the picture."""
        rows = [{k: v for k, v in row.items() if k != "replies"} for row in self.rows]
        found = {"machine": machine(), "settings": self.settings, "rows": rows}
        write_json(self.options.out.with_suffix(".json"), found)
        self.options.out.with_suffix(".md").write_text(table(rows, self.options))
        draw(rows, self.options.out.with_suffix(".png"))
        self.path.unlink()


def line(row: dict[str, Any]) -> str:
    keep = "" if row["keep"] is None else f" keep={row['keep']}"
    return f"{row['task']:8} {row['system']}{keep}: {row['accuracy']:.1%}"


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """One line a system and budget, one column a task."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    cells: dict[tuple[str, float | None], dict[str, dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["system"], row["keep"]), {})[row["task"]] = row
    lines = [
        f"# Quality of `{options.model}` on held-out scenes",
        "",
        f"{options.count} questions a task, {options.side} px, {options.dtype}; "
        f"{where_measured()}. Accuracy in per cent with its 95 % interval; "
        "loyalty: share of answers equal to the full model's; tokens: visual tokens averaged over "
        "the LLM's layers; operations of tower and LLM and seconds a question, over all tasks.",
        "",
        "| system | keep | " + " | ".join(tasks) + " | loyalty | tokens | GFLOPs | seconds |",
        "|---|---|" + "---|" * (len(tasks) + 4),
    ]
    priors = {row["task"]: row["prior"] for row in rows}
    blind = " | ".join(f"{100 * priors[task]:.0f}" for task in tasks)
    lines.append(f"| text alone | | {blind} | | 0 | | |")
    for (name, keep), found in cells.items():
        texts = []
        for task in tasks:
            if task not in found:
                texts.append("")
                continue
            low, high = found[task]["interval"]
            value = found[task]["accuracy"]
            texts.append(f"{100 * value:.0f} ({100 * low:.0f} to {100 * high:.0f})")
        mean = {
            key: sum(row[key] for row in found.values()) / len(found)
            for key in ("loyalty", "visual", "flops", "seconds")
        }
        texts += [
            f"{100 * mean['loyalty']:.0f}",
            f"{mean['visual']:.0f}",
            f"{mean['flops'] / 1e9:.2f}",
            f"{mean['seconds']:.3f}",
        ]
        lines.append(f"| {name} | {'' if keep is None else keep} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel a task: accuracy over visual tokens, a line a system, the full model and the
    prior as levels."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    names = [name for name in dict.fromkeys(row["system"] for row in rows) if name != FULL]
    across = min(4, len(tasks))
    down = -(-len(tasks) // across)
    figure, axes = pyplot.subplots(
        down, across, figsize=(3.4 * across, 2.7 * down), squeeze=False, layout="constrained"
    )
    colors = dict(zip(names, pyplot.get_cmap("tab10").colors, strict=False))
    for axis, task in zip(axes.flat, tasks, strict=False):
        here = [row for row in rows if row["task"] == task]
        for row in here:
            if row["system"] == FULL:
                axis.axhline(100 * row["accuracy"], color="black", linewidth=1)
                axis.axhline(100 * row["prior"], color="0.6", linewidth=1, linestyle=":")
        for name in names:
            points = sorted(
                (row["visual"], 100 * row["accuracy"]) for row in here if row["system"] == name
            )
            dashed = "--" if name in BASELINES else "-"
            axis.plot(*zip(*points, strict=True), dashed, marker="o", markersize=3,
                      color=colors[name], label=name)  # fmt: skip
        axis.set(title=task, ylim=(0, 103), xscale="log")
    for axis in list(axes.flat)[len(tasks) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel("visual tokens")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def arguments() -> argparse.Namespace:
    here = Path(__file__).resolve().parent

    def words(text: str) -> tuple[str, ...]:
        return tuple(word for word in text.split(",") if word)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--systems", type=words, default=("fastervlm", "fastv", "tome"))
    parser.add_argument(
        "--keep",
        type=lambda text: tuple(float(word) for word in words(text)),
        default=(0.5, 0.25, 0.1, 0.05),
    )
    parser.add_argument("--tasks", type=words, default=(*PICTURE_TASKS, *FILM_TASKS))
    parser.add_argument("--count", type=int, default=200, help="questions a task")
    parser.add_argument("--side", type=int, default=112, help="pixels of the shorter side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", help="by default a GPU if there is one")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=here / "results" / "quality")
    return parser.parse_args()


if __name__ == "__main__":
    main()
