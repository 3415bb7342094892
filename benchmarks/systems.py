"""What each system costs by itself, as a share of the prefill that it is there to shorten.

    python benchmarks/systems.py
    python benchmarks/systems.py --systems fastervlm,holitom --media "32 x 196"

A system's own time is what it spends on choosing frames, reading attention rows, scoring,
selecting, merging and editing between layers (`Timing.own`). It stands against the prefill of the
plain model on the same medium in the same round. The model has random weights (`random_models`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from random_models import SHAPES, Shape, film, picture, random_llava, random_onevision
from system_plans import all_systems, planned
from timing_options import begin, timing_parser
from writing import where_measured, write_timings

from sparsight.core.clip import Clip
from sparsight.core.registry import entries
from sparsight.core.reply import Reply
from sparsight.core.slots import SLOTS
from sparsight.measure.statistics import interval_of_median, median
from sparsight.vlm.pipeline import VLM

QUESTION = "What happens here, and in which order?"
GOAL = 0.02  # of the plain prefill


@dataclass(frozen=True)
class Medium:
    """What is shown: a model that shows it with so many visual tokens, and the clip."""

    model: Callable[[Shape, torch.dtype, str], VLM]
    clip: Callable[[Shape], Clip]
    frames: int = 1


MEDIA = {
    "576": Medium(lambda *given: random_llava(given[0], False, *given[1:]),
                  lambda shape: picture(336, 336)),
    "5 x 576": Medium(lambda *given: random_llava(given[0], True, *given[1:]),
                      lambda shape: picture(672, 672)),
    "32 x 196": Medium(random_onevision, lambda shape: film(32, shape.side), frames=32),
}  # fmt: skip


def main() -> None:
    options = begin(described())
    rows: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    for name in options.media:
        for done_rounds, rows in measure(name, options):
            write_timings(options, SHAPES[options.shape], [*done, *rows], done_rounds,
                          markdown(options, [*done, *rows]))  # fmt: skip
            print(f"{name}: round {done_rounds} of {options.repeats}", flush=True)
        done += rows
    draw(options, done)
    print(markdown(options, done))


def measure(name: str, options: argparse.Namespace) -> Any:
    """Yields (rounds, rows) of one medium after each round."""
    shape, medium = SHAPES[options.shape], MEDIA[name]
    vlm = medium.model(shape, getattr(torch, options.dtype), options.device)
    clip = medium.clip(shape)
    ask(vlm, clip)  # memory, kernels and caches are warm afterwards
    systems = options.systems or all_systems()
    plans, refused = planned(vlm, systems, [options.keep], lambda plan: ask(plan, clip))
    runs: dict[str, list[dict[str, float]]] = {system: [] for system, _ in plans}
    prefills: list[float] = []
    for done in range(1, options.repeats + 1):
        plain = ask(vlm, clip)
        prefills.append(plain.timing.stages["prefill"])
        for (system, _), plan in plans.items():
            reply = ask(plan, clip)
            runs[system].append(
                {"own": reply.timing.own, "share": reply.timing.own / prefills[-1],
                 "visual": reply.usage.visual_mean}
            )  # fmt: skip
        rows = [{"medium": name, "system": "none", "prefill": median(prefills),
                 "visual": plain.usage.visual_mean}]  # fmt: skip
        for system, times in runs.items():
            shares = [run["share"] for run in times]
            rows.append({
                "medium": name, "system": system, "visual": times[0]["visual"],
                "own": median([run["own"] for run in times]),
                "share": median(shares), "interval": interval_of_median(shares), "runs": times,
            })  # fmt: skip
        rows += [{"medium": name, "system": s, "refused": why} for s, why in refused.items()]
        yield done, rows


def ask(vlm: VLM, clip: Clip) -> Reply:
    return vlm.ask(clip, QUESTION, max_tokens=1, frames="all" if clip.kind == "film" else None)


def markdown(options: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    media = list(dict.fromkeys(row["medium"] for row in rows))
    plain = {row["medium"]: row for row in rows if row["system"] == "none"}
    heads = [
        f"{name} ({plain[name]['visual']:.0f} tokens, {plain[name]['prefill']:.2f} s)"
        for name in media
    ]
    clock = "processor time" if options.clock == "cpu" else "wall time"
    lines = [
        "# What a system costs by itself",
        "",
        f"Own time as a share of the plain prefill, in per cent, with the 95 % interval of the "
        f"median; keep {options.keep:g}. Shape `{options.shape}`, {options.dtype}, "
        f"{options.device}; {where_measured()}; {clock}. In the heads the plain model's visual "
        f"tokens and prefill.",
        "",
        "| system | fills | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(media),
    ]
    found = {(row["system"], row["medium"]): row for row in rows}
    for system in dict.fromkeys(row["system"] for row in rows if row["system"] != "none"):
        slots = [slot for slot in SLOTS if slot in entries()[system].slots]
        cells = [cell(found.get((system, name))) for name in media]
        lines.append(f"| {system} | {', '.join(slots)} | " + " | ".join(cells) + " |")
    reasons = dict.fromkeys(row["refused"] for row in rows if "refused" in row)
    if reasons:
        lines += ["", "Not run:", "", *(f"- {reason}" for reason in reasons)]
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any] | None) -> str:
    if row is None or "refused" in row:
        return "–"
    low, high = row["interval"]
    text = f"{100 * row['share']:.2f} ({100 * low:.2f} to {100 * high:.2f})"
    return f"**{text}**" if row["share"] > GOAL else text


def draw(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """One panel a medium, a bar a system, the goal dashed."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    media = list(dict.fromkeys(row["medium"] for row in rows))
    names = list(dict.fromkeys(row["system"] for row in rows if "share" in row))
    figure, axes = pyplot.subplots(
        1, len(media), figsize=(4 * len(media), 0.22 * len(names) + 1.4), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, name in zip(axes[0], media, strict=True):
        here = {row["system"]: row for row in rows if row["medium"] == name and "share" in row}
        shares = [100 * here[system]["share"] if system in here else 0 for system in names]
        axis.barh(
            names, shares, color=["tab:red" if s > 100 * GOAL else "tab:blue" for s in shares]
        )
        axis.axvline(100 * GOAL, color="0.3", linestyle="--", linewidth=1)
        axis.set(title=f"{name} tokens", xlabel="own time, % of the plain prefill", xscale="symlog")
    axes[0][0].invert_yaxis()
    figure.savefig(options.out.with_suffix(".png"), dpi=110)
    pyplot.close(figure)


def described() -> argparse.ArgumentParser:
    parser = timing_parser(__doc__, "systems", shape="real", repeats=5)

    def words(text: str) -> list[str]:
        return [word.strip() for word in text.split(",") if word.strip()]

    parser.add_argument("--systems", type=words, help="by default all that ask no model themselves")
    parser.add_argument("--media", type=words, default=list(MEDIA), help="of: " + ", ".join(MEDIA))
    parser.add_argument("--keep", type=float, default=0.25)
    return parser


if __name__ == "__main__":
    main()
