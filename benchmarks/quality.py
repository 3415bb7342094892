"""What a system keeps and loses, task by task, on films and pictures whose every pixel is known.

    python benchmarks/quality.py
    python benchmarks/quality.py --systems fastv,tome --keep 0.5 --pictures color --films move

Every system is asked the same questions of the test split at every budget, beside the full model,
random, uniform, pool and downsample. A row is a system at a budget: accuracy on each task with its
95 % interval, beside the text-only prior; agreement with the full model's answers (loyalty), visual
tokens averaged over the LLM's layers, operations and seconds a question. Pictures and films are
compared apart. It stands on `sparsight.tune.compare`; an interrupted run goes on where it stopped.
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
from sparsight.bench.item import Item
from sparsight.bench.store import Store
from sparsight.cli.comparing import Shown
from sparsight.core.registry import entries
from sparsight.core.slots import needs_of
from sparsight.measure.machine import machine
from sparsight.systems import load as load_systems
from sparsight.tune.compare import BASELINES, Entrant, compare, entrants
from sparsight.tune.results import as_json
from sparsight.tune.rows import Row
from sparsight.world.exam import exam, prior
from sparsight.world.items import exam_items

TASKS = {
    "pictures": ("exists", "color", "shape", "count", "where", "read"),
    "films": ("move", "order", "state", "repeat", "when", "needle"),
}
#: Systems whose published layers are deeper than this LLM, at the same share of its depth.
FITTED = {
    "flashvid": ("layer", (20 / 28,)),
    "prunevid": ("layer", (11 / 32,)),
    "sparsevlm": ("layers", (3 / 32, 7 / 32, 16 / 32)),
}
#: Its questions go to a model that writes captions of films, which the embedded ones hardly do.
LEFT_OUT = ("llovi",)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    load_systems()
    vlm = sparsight.load(options.model, dtype=options.dtype, device=options.device)
    systems = options.systems or [name for name in entries() if name not in LEFT_OUT]
    depth = len(vlm.family.decoder.layers)
    systems = [fitted(name, depth) for name in systems if name not in BASELINES]
    field = entrants([*BASELINES, *systems], options.keep, seed=options.seed)
    for kind in TASKS:
        tasks: Sequence[str] = getattr(options, kind)
        if not tasks:
            continue
        with Store(options.records) as store, Shown() as shown:
            found = compare(
                vlm, field if kind == "films" else for_pictures(field), items(tasks, options),
                store=store, baselines=False, batch=options.batch, seed=options.seed,
                data="world", watch=shown,
            )  # fmt: skip
        rows = [row for row in found.rows if row.failures < row.count]
        priors = {task: prior_of(task, options) for task in tasks}
        settings = {
            name: getattr(options, name) for name in ("model", "side", "count", "seed", "batch")
        }
        about = {"machine": machine(), "settings": settings, "priors": priors}
        out = options.out.with_name(f"{options.out.name}_{kind}")
        write_json(out.with_suffix(".json"), json.loads(as_json(rows, found.impossible, about)))
        written = table(kind, rows, priors, options)
        written += "".join(f"\n{each}.\n" for each in found.impossible)
        out.with_suffix(".md").write_text(written)
        draw(rows, priors, out.with_suffix(".png"))
        print(written)


def fitted(name: str, depth: int) -> str:
    """A system with layers that an LLM of this depth has."""
    if name not in FITTED:
        return name
    knob, shares = FITTED[name]
    layers: list[int] = []
    for share in shares:
        layers.append(max(round(share * depth), layers[-1] + 1 if layers else 1))
    return f"{name}:{knob}={','.join(map(str, layers))}" if layers[-1] < depth else name


def for_pictures(field: Sequence[Entrant]) -> list[Entrant]:
    """Without the systems that work on films alone."""
    return [
        entrant
        for entrant in field
        if not any(need.name == "film" for s in entrant.plan.systems for need in needs_of(s))
    ]


def items(tasks: Sequence[str], options: argparse.Namespace) -> list[Item]:
    return [
        item
        for task in tasks
        for item in exam_items(task, options.count, options.seed, side=options.side)
    ]


def prior_of(task: str, options: argparse.Namespace) -> float:
    """What the best guess from the words alone scores on the same questions."""
    return prior(task).score(list(exam(task, "test", options.count, seed=options.seed)))


def table(
    kind: str, rows: Sequence[Row], priors: dict[str, float], options: argparse.Namespace
) -> str:
    """One line a plan, one column a task."""
    blind = " | ".join(f"{100 * share:.0f}" for share in priors.values())
    lines = [
        f"# Quality of `{options.model}` on held-out {kind}",
        "",
        f"{options.count} questions a task, {options.side} px, {options.dtype}; "
        f"{where_measured()}. Accuracy in per cent with its 95 % interval; "
        "loyalty: share of answers equal to the full model's; tokens: visual tokens averaged over "
        "the LLM's layers; operations of tower and LLM and seconds a question "
        f"(asked {options.batch} together), over all tasks.",
        "",
        "| plan | " + " | ".join(priors) + " | all | loyalty | tokens | GFLOPs | seconds |",
        "|---|" + "---|" * (len(priors) + 5),
        f"| text alone | {blind} | | | 0 | | |",
    ]
    for row in rows:
        cells = [scored(row.tasks[task].accuracy, row.tasks[task].interval) for task in priors]
        cells += [
            scored(row.accuracy, row.interval95),
            f"{100 * row.loyalty:.0f}",
            f"{row.visual_mean:.0f}",
            f"{sum(row.flops.values()) / 1e9:.2f}",
            f"{row.total:.3f}",
        ]
        lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def scored(accuracy: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * accuracy:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def draw(rows: Sequence[Row], priors: dict[str, float], path: Path) -> None:
    """One panel a task: accuracy over visual tokens, a line a system, the full model and the
    prior as levels."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    across = min(3, len(priors))
    down = -(-len(priors) // across)
    figure, axes = pyplot.subplots(
        down, across, figsize=(4.2 * across, 3.2 * down), squeeze=False, layout="constrained"
    )
    full = next(row for row in rows if row.role == "full")
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row.role != "full":
            lines.setdefault(" + ".join(row.knobs), []).append(row)
    for axis, (task, blind) in zip(axes.flat, priors.items(), strict=False):
        axis.axhline(100 * full.tasks[task].accuracy, color="black", linewidth=1)
        axis.axhline(100 * blind, color="0.6", linewidth=1, linestyle=":")
        for place, (name, mine) in enumerate(lines.items()):
            points = sorted((row.visual_mean, 100 * row.tasks[task].accuracy) for row in mine)
            look: dict[str, Any] = {"color": f"C{place % 10}", "marker": "osD^v"[place // 10 % 5]}
            if mine[0].role == "baseline":
                look |= {"linestyle": "--", "color": ("0.75", "0.6", "0.45", "0.3")[place % 4]}
            axis.plot(*zip(*points, strict=True), markersize=4, linewidth=1, label=name, **look)
        axis.set(title=task, ylim=(0, 103), xscale="log")
    for axis in list(axes.flat)[len(priors) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel("visual tokens")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def arguments() -> argparse.Namespace:
    here = Path(__file__).resolve().parent

    def words(text: str) -> tuple[str, ...]:
        return tuple(word for word in text.split(",") if word)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--systems", type=words, help="all of them by default")
    parser.add_argument(
        "--keep",
        type=lambda text: tuple(float(word) for word in words(text)),
        default=(0.5, 0.25, 0.1, 0.05),
    )
    for kind, tasks in TASKS.items():
        parser.add_argument(f"--{kind}", type=words, default=tasks, help="tasks")
    parser.add_argument("--count", type=int, default=200, help="questions a task")
    parser.add_argument("--side", type=int, default=112, help="pixels of the shorter side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", help="by default a GPU if there is one")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=here / "results" / "quality")
    parser.add_argument(
        "--records", type=Path, default=here.parent / "out" / "quality", help="every answer"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
