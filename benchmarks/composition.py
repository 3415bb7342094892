"""Whether systems composed across slots get past the wall that reduction behind the tower meets.

    python benchmarks/composition.py
    python benchmarks/composition.py --kinds films --count 20 --plans "frames=8;tome:r=16"

However few tokens a reducer behind the tower leaves, decoding and encoding stay: the first token
cannot come sooner than by total / (total - prefill). Plans that also merge inside the tower or
look at fewer frames can. The world's questions are written as PNG and MP4, so that decoding counts;
every plan answers all of them. On one half of the questions the fastest plan is chosen that loses
less than two points; what is told of it comes from the other half. Seconds are taken apart, one
question at a time: in every round all plans answer the same one.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from writing import where_measured, write_json

import sparsight
from sparsight.bench.data import read_items
from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.runner import frames_of
from sparsight.bench.store import Store
from sparsight.cli.comparing import Shown
from sparsight.core.plan import Plan, parse_system
from sparsight.measure.machine import machine
from sparsight.measure.statistics import median
from sparsight.systems import load as load_systems
from sparsight.tune.compare import Comparison, Entrant, compare
from sparsight.tune.halves import halves
from sparsight.tune.rows import FULL, Row, row_of
from sparsight.world.folder import RECORDS
from sparsight.world.request import Request
from sparsight.world.tasks.scoring import SCORERS
from sparsight.world.write import make

LOSS = 0.02  # of the questions, that a plan may answer worse than the full model
TASKS = {
    "pictures": ("exists", "color", "shape", "count", "where", "read"),
    "films": ("move", "state", "order", "exists", "color", "shape"),
}
LENGTH = {"pictures": 1, "films": 16}  # frames
#: Systems of a plan are parted by ";"; "frames=N" looks at N frames of a film, evenly.
PLANS = {
    "pictures": (
        "pool:keep=0.25",
        "fastervlm:keep=0.25",
        "tome:r=16",
        "tome:r=32",
        "tome:r=16;fastervlm:keep=0.5",
        "tome:r=32;fastervlm:keep=0.5",
        "tome:r=32;pool:keep=0.25",
        "tome:r=32;fastervlm:keep=0.25",
        "tome:r=32;fastervlm:keep=0.5;fastv:keep=0.5",
    ),
    "films": (
        "pool:keep=0.25",
        "holitom:keep=0.25",
        "frames=8",
        "tome:r=32",
        "frames=12;pool:keep=0.5",
        "frames=8;pool:keep=0.5",
        "frames=8;holitom:keep=0.5",
        "frames=8;tome:r=16",
        "frames=12;tome:r=32;pool:keep=0.5",
        "frames=8;tome:r=32;pool:keep=0.5",
        "frames=8;tome:r=16;holitom:keep=0.5",
    ),
}
STAGES = ("decode", "preprocess", "encode", "connect+reduce", "prefill")
FIRST = "first token"


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    load_systems()
    vlm = sparsight.load(options.model, dtype=options.dtype)
    found: dict[str, Any] = {}
    for kind in options.kinds:
        items = written(kind, options)
        field = [entrant(text) for text in options.plans or PLANS[kind]]
        with Store(options.work / "records") as store, Shown() as shown:
            done = compare(
                vlm, field, items, store=store, baselines=False, batch=8,
                data=f"{kind} on disk", watch=shown,
            )  # fmt: skip
        found[kind] = judged(
            done, items, timed(done, items[:: max(1, len(items) // options.rounds)])
        )
    settings = {name: getattr(options, name) for name in ("model", "dtype", "side", "count")}
    write_json(
        options.out.with_suffix(".json"),
        {"machine": machine(), "settings": settings, "loss": LOSS, **found},
    )
    options.out.with_suffix(".md").write_text(markdown(found, options))
    draw(found, options.out.with_suffix(".png"))
    print(markdown(found, options))


def written(kind: str, options: argparse.Namespace) -> list[Item]:
    """Questions about held-out scenes, their media on disk."""
    items: list[Item] = []
    for task in TASKS[kind]:
        folder = options.work / kind / f"{task}-{options.side}-{options.count}"
        make(Request("test", task, options.count, frames=LENGTH[kind], side=options.side), folder)
        read, skipped = read_items(folder / RECORDS, scorers=SCORERS)
        assert not skipped, skipped[0]
        items += [
            dataclasses.replace(
                item,
                id=f"{task}-{item.id}",
                task=task,
                frames="all" if kind == "films" else None,
            )
            for item in read
        ]
    return items


def entrant(text: str) -> Entrant:
    """A plan by its systems."""
    frames, systems = None, []
    for part in text.split(";"):
        name, _, value = part.partition("=")
        if name == "frames":
            frames = f"uniform:{int(value)}"
        else:
            systems.append(parse_system(part))
    return Entrant(text, Plan(systems=tuple(systems), frames=frames))


def timed(done: Comparison, items: Sequence[Item]) -> dict[str, list[dict[str, float]]]:
    """Seconds of every plan, by its label, in every round."""
    runs: dict[str, list[dict[str, float]]] = {label: [] for label in done.vlms}
    for place, item in enumerate([items[0], *items]):
        for label, vlm in done.vlms.items():
            reply = vlm.ask(
                item.sources()[0], item.question, frames=frames_of(vlm, item), max_tokens=1
            )
            if place:  # kernels and caches are warm after the first
                seconds = {**reply.timing.stages, FIRST: reply.timing.first_token}
                runs[label].append(seconds)
    return runs


def judged(
    done: Comparison, items: Sequence[Item], runs: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """The plan chosen on one half, what the other half says of every plan, and the wall."""
    chosen_on, told_of = ({item.id for item in half} for half in halves(items, len(items), seed=0))
    seconds = {
        label: {name: median([run[name] for run in rounds]) for name in rounds[0]}
        for label, rounds in runs.items()
    }
    speedups = {
        label: median([a[FIRST] / b[FIRST] for a, b in zip(runs[FULL], rounds, strict=True)])
        for label, rounds in runs.items()
    }
    first = [half_row(done, row, chosen_on) for row in done.rows]
    good = [row.label for row in first if row.diff > -LOSS]
    return {
        "questions": {"to choose": len(chosen_on), "held out": len(told_of)},
        "rounds": len(runs[FULL]),
        "wall": seconds[FULL][FIRST] / (seconds[FULL][FIRST] - seconds[FULL]["prefill"]),
        "chosen": max(good, key=speedups.__getitem__),
        "rows": [
            {
                **half_row(done, row, told_of).as_dict(),
                "seconds": seconds[row.label],
                "speedup": speedups[row.label],
            }
            for row in done.rows
        ],
        "not_possible": [str(each) for each in done.impossible],
    }


def half_row(done: Comparison, row: Row, ids: set[str]) -> Row:
    """A row over some of the items."""

    def these(label: str) -> list[Record]:
        return [record for record in done.records[label] if record.item in ids]

    mine, full = these(row.label), these(FULL)
    return row_of(mine, full, label=row.label, plan=done.vlms[row.label].plan, role=row.role)


def markdown(found: dict[str, Any], options: argparse.Namespace) -> str:
    lines = [
        "# Systems composed across slots",
        "",
        f"`{options.model}`, {options.dtype}, media of {options.side} px on disk; "
        f"{where_measured()}. Median seconds to the first token, decoding and encoding included; "
        "accuracy less the full model's in points with its 95 % interval. The wall is what a "
        "reducer behind the tower could reach at most, with a prefill that takes no time.",
    ]
    for kind, about in found.items():
        questions = about["questions"]
        lines += [
            "",
            f"## {kind.capitalize()}",
            "",
            f"Wall: {about['wall']:.2f}x. Chosen on {questions['to choose']} other questions as "
            f"the fastest that loses less than {100 * LOSS:.0f} points: **{about['chosen']}**. "
            f"The table is of {questions['held out']} held-out questions and "
            f"{about['rounds']} rounds.",
            "",
            "| plan | decode | preprocess | encode | connect+reduce | prefill | first token "
            "| speed-up | accuracy | difference |",
            "|" + "---|" * 10,
        ]
        for row in about["rows"]:
            low, high = row["diff_interval"]
            mark = "**" if row["label"] == about["chosen"] else ""
            cells = [
                f"{mark}{row['label']}{mark}",
                *[f"{row['seconds'].get(name, 0):.4f}" for name in (*STAGES, FIRST)],
                f"{row['speedup']:.2f}x",
                f"{100 * row['accuracy']:.1f}",
                f"{100 * row['diff']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines += [f"\n{each}." for each in about["not_possible"]]
    return "\n".join(lines) + "\n"


def draw(found: dict[str, Any], path: Path) -> None:
    """One panel a kind: points lost over the speed-up, the wall and the allowed loss as lines."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(found), figsize=(7 * len(found), 4.8), squeeze=False, layout="constrained"
    )
    for axis, (kind, about) in zip(axes[0], found.items(), strict=True):
        axis.axvline(about["wall"], color="tab:red", linewidth=1, label="wall of the encoder")
        axis.axhline(-100 * LOSS, color="0.5", linewidth=1, linestyle="--", label="allowed loss")
        for row in about["rows"]:
            x, y = row["speedup"], 100 * row["diff"]
            low, high = row["diff_interval"]
            taken = row["label"] == about["chosen"]
            axis.errorbar(
                x, y, yerr=[[y - 100 * low], [100 * high - y]], fmt="o", capsize=2, linewidth=1,
                color="tab:green" if taken else "tab:blue",
            )  # fmt: skip
            axis.annotate(
                row["label"], (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
        axis.set(title=kind, xlabel="first token, times as soon", ylabel="accuracy, points")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def arguments() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--kinds", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--plans", nargs="+", help='such as "frames=8;tome:r=16;pool:keep=0.5"')
    parser.add_argument("--count", type=int, default=100, help="questions a task")
    parser.add_argument("--rounds", type=int, default=30, help="questions that are timed, about")
    parser.add_argument("--side", type=int, default=224, help="pixels of the shorter side")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=here / "results" / "composition")
    parser.add_argument(
        "--work", type=Path, default=here.parent / "out" / "composition", help="media and answers"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
