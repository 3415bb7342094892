"""What Sparsight costs when it saves nothing: plain transformers `generate` beside it at keep 1.0.

    python benchmarks/overhead.py

Same model in memory, same pixels, same prompt ids, same greedy answer (checked token by token).
Rounds are interleaved and start with another side each time. Two comparisons:

prepared   pixels and prompt ids are ready; transformers generates. Of Sparsight's whole request
           the seconds of fetch, decode and preprocess are taken off, those of writing and
           tokenizing the prompt are not.
whole      a picture in memory to the answer: transformers' Pillow processor, tokenizer and
           generate beside `ask`. (Its video processor needs torchvision, so films have none.)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from random_models import SHAPES, film, picture, random_onevision
from timing_options import begin, timing_parser
from transformers import LlavaOnevisionImageProcessorPil, StoppingCriteriaList
from writing import where_measured, write_timings

from sparsight.core.clip import Clip
from sparsight.core.tokens import Views
from sparsight.llm.generation import StepTimes
from sparsight.measure.stages import synchronize
from sparsight.measure.statistics import interval_of_median, median
from sparsight.vlm.pipeline import VLM

QUESTION = "What is there to be seen, and where?"
GOAL = 1.02
PLAIN = "transformers"
Times = dict[str, float]
Side = Callable[[], tuple[Times, list[int]]]


def main() -> None:
    options = begin(described())
    shape = SHAPES[options.shape]
    vlm = random_onevision(shape, getattr(torch, options.dtype), options.device)
    clips = {
        f"film of {options.frames} frames": film(options.frames, shape.side),
        "picture": picture(shape.side, shape.side),
    }
    cases = {name: sides(vlm, clip, options) for name, clip in clips.items()}
    runs: dict[str, dict[str, list[Times]]] = {
        name: {side: [] for side in found} for name, found in cases.items()
    }
    rows: list[dict[str, Any]] = []
    for done in range(options.repeats + options.warmup):
        for name, found in cases.items():
            order = list(found)
            order = order[done % len(order) :] + order[: done % len(order)]
            answers = {}
            for side in order:
                times, answers[side] = found[side]()
                if done >= options.warmup:
                    runs[name][side].append(times)
            wrong = [side for side in order if answers[side] != answers[PLAIN]]
            assert not wrong, f"{name}: {wrong} answer otherwise than {PLAIN}"
        if done >= options.warmup:
            rows = compare(runs)
            report(options, rows, done + 1 - options.warmup)
        print(f"round {done + 1} of {options.repeats + options.warmup}", flush=True)
    print(markdown(options, rows))


def sides(vlm: VLM, clip: Clip, options: argparse.Namespace) -> dict[str, Side]:
    """The same request to each side; every call returns its times and the answer's tokens."""
    views, ids = prepared(vlm, clip)
    model, device = vlm.family.model, vlm.family.model.device
    inputs = {"input_ids": torch.tensor([ids]), **media_inputs(views)}
    inputs = {name: value.to(device) for name, value in inputs.items()}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])

    def generate(given: dict[str, Any], started: float) -> tuple[Times, list[int]]:
        times = StepTimes(lambda: synchronize(device))
        out = model.generate(
            **given,
            do_sample=False,
            max_new_tokens=options.answer,
            stopping_criteria=StoppingCriteriaList([times]),
        )
        synchronize(device)
        total = time.perf_counter() - started
        return {"first token": times.at[0] - started, "total": total}, out[0, len(ids) :].tolist()

    def plain() -> tuple[Times, list[int]]:
        return generate(inputs, time.perf_counter())

    def whole() -> tuple[Times, list[int]]:
        started = time.perf_counter()
        made = processor(Image.fromarray(clip.frames([0])[0].numpy()), return_tensors="pt")
        tokens = vlm.family.tokenizer(written, return_tensors="pt")
        return generate({**tokens.to(device), **made.to(device)}, started)

    def asking(chosen: VLM, off: tuple[str, ...]) -> Side:
        def ask() -> tuple[Times, list[int]]:
            started = time.perf_counter()
            reply = chosen.ask(
                clip,
                QUESTION,
                frames="all",
                max_tokens=options.answer,
                do_sample=False,
            )
            total = time.perf_counter() - started
            less = sum(reply.timing.stages[name] for name in off)
            first = reply.timing.first_token
            return {"first token": first - less, "total": total - less}, list(reply.tokens)

        return ask

    before = ("fetch", "decode", "preprocess")
    score = "cls" if "cls_attention" in vlm.family.supplies() else "received"
    found = {
        PLAIN: plain,
        "sparsight": asking(vlm, before),
        "sparsight, fastervlm keep=1.0": asking(
            vlm.using("fastervlm", keep=1.0, score=score), before
        ),
    }
    if clip.kind == "picture":
        settings = vlm.family.settings
        written = vlm.family.expand(vlm.family.prompt_text(messages(clip)), [views])
        processor = LlavaOnevisionImageProcessorPil(**settings.picture)
        found |= {f"{PLAIN}, whole": whole, "sparsight, whole": asking(vlm, ())}
    return found


def messages(clip: Clip) -> list[dict[str, Any]]:
    kind = "image" if clip.kind == "picture" else "video"
    return [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": QUESTION}]}]


def prepared(vlm: VLM, clip: Clip) -> tuple[Views, list[int]]:
    """The pixels and the prompt ids that both sides work on."""
    family, pixels = vlm.family, clip.frames()
    if clip.kind == "picture":
        views = family.picture_views(pixels[0], alone=True)
    else:
        views = family.film_views(pixels, clip.timestamps.tolist(), clip.duration)
    return views, family.ids(family.expand(family.prompt_text(messages(clip)), [views]))


def media_inputs(views: Views) -> dict[str, torch.Tensor]:
    """A medium as the plain model's forward takes it."""
    pixels = views.inputs["pixel_values"][None]
    if views.kind == "video":
        return {"pixel_values_videos": pixels}
    return {"pixel_values": pixels, "image_sizes": torch.tensor([views.size])}


def compare(runs: dict[str, dict[str, list[Times]]]) -> list[dict[str, Any]]:
    """Each side over the plain one of the same round: the median ratio and its 95 % interval.

    Sides of one round ran one after the other, so what slows the machine down for a while slows
    down both, and their ratio stands still where their times do not.
    """
    rows = []
    for name, found in runs.items():
        for side, times in found.items():
            whole = f"{PLAIN}, whole"
            against = found[whole if whole in found and "whole" in side else PLAIN]
            row: dict[str, Any] = {"medium": name, "side": side, "runs": times}
            for measure in ("first token", "total"):
                own, other = ([t[measure] for t in column] for column in (times, against))
                ratios = [mine / plain for mine, plain in zip(own, other, strict=True)]
                row[measure] = {
                    "median": median(own),
                    "ratios": ratios,
                    "ratio": median(ratios),
                    "interval": interval_of_median(ratios),
                }
            rows.append(row)
    return rows


def report(options: argparse.Namespace, rows: list[dict[str, Any]], rounds: int) -> None:
    """Write the JSON, the table and the picture."""
    write_timings(options, SHAPES[options.shape], rows, rounds, markdown(options, rows))
    draw(options, rows)


def markdown(options: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    clock = "processor time" if options.clock == "cpu" else "wall time"
    lines = [
        "# Overhead at keep 1.0",
        "",
        f"Shape `{options.shape}`, {options.dtype}, {options.device}, answers of {options.answer} "
        f"tokens; {where_measured()}. Seconds "
        f"of {clock}, {len(rows[0]['runs'])} interleaved rounds: median, and the median ratio to "
        "plain transformers in the same round (in brackets its 95 % interval).",
        "",
        "| medium | side | first token | ratio | total | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["medium"], row["side"]]
        for measure in ("first token", "total"):
            value = row[measure]
            cells.append(f"{value['median']:.4f}")
            low, high = value["interval"]
            cells.append(f"{value['ratio']:.3f} ({low:.3f} to {high:.3f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Every round of every side, over plain transformers in the same round."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.2), sharey=True, layout="constrained")
    labels = [f"{row['medium']}\n{row['side']}" for row in rows]
    for axis, measure in zip(axes, ("first token", "total"), strict=True):
        for place, row in enumerate(rows):
            values = row[measure]["ratios"]
            axis.plot(values, [place] * len(values), "o", alpha=0.35, color="tab:blue")
            axis.plot([row[measure]["ratio"]], [place], "|", markersize=22, color="black")
        axis.axvline(1.0, color="0.5", linewidth=1)
        axis.axvline(GOAL, color="0.5", linewidth=1, linestyle="--")
        axis.set(
            title=measure, xlabel="time over plain transformers' in the same round (dashed: 1.02)"
        )
    axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
    axes[0].invert_yaxis()
    figure.savefig(options.out.with_suffix(".png"), dpi=110)
    pyplot.close(figure)


def described() -> argparse.ArgumentParser:
    parser = timing_parser(__doc__, "overhead", shape="narrow", repeats=15)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--answer", type=int, default=16, help="tokens")
    parser.add_argument("--warmup", type=int, default=2, help="rounds that are not counted")
    return parser


if __name__ == "__main__":
    main()
