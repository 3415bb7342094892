"""Time to the first token at a share of the visual tokens, stage by stage, against the formula.

    python benchmarks/first_token.py
    python benchmarks/first_token.py --systems all --frames 32 --out FOLDER/first_token_systems
    python benchmarks/first_token.py --device cuda --shape 7b

The model has random weights (see `random_models.py`): its cost is that of a trained one of the
same shape. Every round asks at every setting once, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from random_models import SHAPES, film, random_onevision
from system_plans import all_systems, planned
from timing_options import begin, timing_parser
from writing import where_measured, write_timings

from sparsight.core.clip import Clip
from sparsight.core.reply import Reply
from sparsight.measure.flops import DecoderShape, decoder_shape, prefill_flops
from sparsight.measure.statistics import median
from sparsight.vlm.pipeline import VLM

QUESTION = "What happens in the film, and in which order?"
GOAL = 0.85  # of the speed-up that the formula promises
FEW = 4  # systems whose stages are drawn
Setting = tuple[str, float | None, int]  # system ("" for none), share kept, frames


def main() -> None:
    options = begin(described())
    shape = SHAPES[options.shape]
    vlm = random_onevision(shape, getattr(torch, options.dtype), options.device)
    films = {count: film(count, shape.side) for count in options.frames}
    systems = all_systems() if options.systems == ["all"] else options.systems
    settings: dict[Setting, VLM] = {}
    refused: dict[str, str] = {}
    for count, clip in films.items():
        ask(vlm, clip)  # memory, kernels and caches are warm afterwards
        plans, why = planned(vlm, systems, options.keep, lambda plan, c=clip: ask(plan, c))
        refused |= why
        settings["", 1.0, count] = vlm
        settings |= {(*key, count): plan for key, plan in plans.items()}
    runs: dict[Setting, list[dict[str, float]]] = {setting: [] for setting in settings}
    rows: list[dict[str, Any]] = []
    for done in range(1, options.repeats + 1):
        replies = {}
        for setting, plan in settings.items():
            reply = replies[setting] = ask(plan, films[setting[2]])
            runs[setting].append({**reply.timing.stages, "first token": reply.timing.first_token})
        rows = table(vlm, runs, replies)
        report(options, rows, done, refused)
        print(f"round {done} of {options.repeats}", flush=True)
    print(markdown(options, rows, refused))


def ask(vlm: VLM, clip: Clip) -> Reply:
    return vlm.ask(clip, QUESTION, frames="all", max_tokens=1)


def table(
    vlm: VLM, runs: dict[Setting, list[dict[str, float]]], replies: dict[Setting, Reply]
) -> list[dict[str, Any]]:
    """Medians over the rounds, and what the formula promises over the plain model.

    The prefill's promise is its operations at keep 1.0 over those at this setting. The first
    token's promise is what follows from it when all other stages take as long as before.
    """
    shape = decoder_shape(vlm.family.decoder.config)
    rows = []
    for setting, times in runs.items():
        system, keep, count = setting
        seconds = {name: median([run[name] for run in times]) for name in times[0]}
        plain = runs["", 1.0, count]
        first, prefill = (
            median([run[name] for run in plain]) for name in ("first token", "prefill")
        )
        whole = layers(shape, replies["", 1.0, count])
        operations = prefill_flops(shape, layers(shape, replies[setting]), causal=True)
        promise = prefill_flops(shape, whole, causal=True) / operations
        first_promise = first / (first - prefill + prefill / promise)
        rows.append(
            {
                "frames": count,
                "system": system or "none",
                "keep": keep,
                "visual_seen": replies[setting].usage.visual_seen,
                "visual_mean": replies[setting].usage.visual_mean,
                "seconds": seconds,
                "prefill_flops": operations,
                "tower_flops": replies[setting].flops.tower,
                "prefill": compared(prefill / seconds["prefill"], promise),
                "first_token": compared(first / seconds["first token"], first_promise),
                "runs": times,
            }
        )
    return rows


def layers(shape: DecoderShape, reply: Reply) -> list[int]:
    """Tokens that each layer of the language model read."""
    text = reply.usage.prompt - reply.usage.visual_kept
    lived = torch.cat([item.layers for item in reply.maps])
    return [text + int((lived > layer).sum()) for layer in range(shape.layers)]


def compared(measured: float, promised: float) -> dict[str, float]:
    return {"speedup": measured, "promised": promised, "reached": measured / promised}


def report(
    options: argparse.Namespace, rows: list[dict[str, Any]], rounds: int, refused: dict[str, str]
) -> None:
    """Write the JSON, the table and the picture."""
    written = markdown(options, rows, refused)
    write_timings(options, SHAPES[options.shape], rows, rounds, written)
    (draw_stages if len(names(rows)) <= FEW else draw_systems)(options, rows)


def names(rows: list[dict[str, Any]]) -> list[str]:
    """The systems, as they came."""
    return list(dict.fromkeys(row["system"] for row in rows if row["system"] != "none"))


def markdown(
    options: argparse.Namespace, rows: list[dict[str, Any]], refused: dict[str, str]
) -> str:
    clock = "processor time" if options.clock == "cpu" else "wall time"
    lines = [
        "# Time to the first token",
        "",
        f"Shape `{options.shape}`, {options.dtype}, {options.device}; {where_measured()}. "
        f"Median seconds of {clock} over "
        f"{len(rows[0]['runs'])} interleaved rounds.",
        "",
        "| frames | system | keep | visual tokens (mean over layers) | encode | connect+reduce "
        "| prefill | first token | prefill speed-up (promised, reached) "
        "| first-token speed-up (promised, reached) |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        cells = [
            row["frames"],
            row["system"],
            "–" if row["keep"] is None else row["keep"],
            round(row["visual_mean"]),
            *[f"{row['seconds'][name]:.3f}" for name in ("encode", "connect+reduce", "prefill")],
            f"{row['seconds']['first token']:.3f}",
            *[words(row[name]) for name in ("prefill", "first_token")],
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if refused:
        lines += ["", "Not run:", "", *(f"- {reason}" for reason in refused.values())]
    return "\n".join(lines) + "\n"


def words(found: dict[str, float]) -> str:
    return f"{found['speedup']:.2f}x ({found['promised']:.2f}x, {found['reached']:.0%})"


def draw_stages(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """The stages at the most frames, and all speed-ups of the prefill against the promise."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    most = [row for row in rows if row["frames"] == max(options.frames)]
    figure, (bars, points) = pyplot.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    labels = [row["system"] + ("" if row["keep"] is None else f"\n{row['keep']:g}") for row in most]
    base = [0.0] * len(most)
    for stage in ("decode", "preprocess", "encode", "connect+reduce", "prefill"):
        values = [row["seconds"][stage] for row in most]
        bars.bar(labels, values, bottom=base, label=stage)
        base = [low + value for low, value in zip(base, values, strict=True)]
    bars.set_ylabel("seconds")
    bars.set_title(f"To the first token, {max(options.frames)} frames: system, share kept")
    bars.legend(frameon=False)
    high = max(max(row["prefill"]["promised"], row["prefill"]["speedup"]) for row in rows)
    points.plot([1, high], [1, high], color="0.5", linewidth=1, label="as promised")
    points.plot([1, high], [GOAL, GOAL * high], "--", color="0.5", linewidth=1, label="85 % of it")
    for system in names(rows):
        for count, marker in zip(options.frames, "os^Dv", strict=False):
            here = [r for r in rows if r["system"] == system and r["frames"] == count]
            points.plot(
                [row["prefill"]["promised"] for row in here],
                [row["prefill"]["speedup"] for row in here],
                marker,
                label=f"{system}, {count} frames",
            )
    points.set(xscale="log", yscale="log", xlabel="promised by the formula", ylabel="measured")
    points.set_title("Speed-up of the prefill")
    points.legend(frameon=False, fontsize=8)
    figure.savefig(options.out.with_suffix(".png"), dpi=110)
    pyplot.close(figure)


def draw_systems(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """One panel a count of frames, a line a system: how much sooner the first token comes at each
    budget, and what was promised."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    systems = names(rows)
    places = {name: place for place, name in enumerate(systems)}
    figure, axes = pyplot.subplots(
        1, len(options.frames), figsize=(7 * len(options.frames), 0.26 * len(systems) + 1.4),
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, count in zip(axes[0], options.frames, strict=True):
        for place, keep in enumerate((*options.keep, None)):
            here = [
                row
                for row in rows
                if row["frames"] == count and row["keep"] == keep and row["system"] != "none"
            ]
            across = [places[row["system"]] for row in here]
            color, label = f"C{place}", "no budget" if keep is None else f"keep {keep:g}"
            found = [row["first_token"] for row in here]
            axis.scatter([each["speedup"] for each in found], across, color=color, label=label)
            axis.scatter(
                [each["promised"] for each in found], across, marker="|", s=90, color=color
            )
        axis.axvline(1, color="0.5", linewidth=1)
        axis.set_yticks(range(len(systems)), systems)
        axis.grid(axis="y", color="0.92")
        axis.set_axisbelow(True)
        axis.set(title=f"{count} frames", xlabel="first token, times as soon (bar: promised)")
    axes[0][0].invert_yaxis()
    axes[0][0].legend(frameon=False)
    figure.savefig(options.out.with_suffix(".png"), dpi=110)
    pyplot.close(figure)


def described() -> argparse.ArgumentParser:
    parser = timing_parser(__doc__, "first_token", shape="small", repeats=10)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.25, 0.1])
    parser.add_argument(
        "--systems", nargs="+", default=["uniform", "fastv"], help='or "all" that ask no model'
    )
    return parser


if __name__ == "__main__":
    main()
