"""How many frames of the synthetic world are painted in a second?

    python benchmarks/world_speed.py
    python benchmarks/world_speed.py --device cuda

Scenes as `sample_scene` draws them, owners of pixels included; drawing the scenes is not counted.
Pictures are one frame each of as many scenes, so that every frame has its own background and
things. One process on one thread and on all cores, and one process a core with one thread each,
which is how the workers of a data loader paint.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparsight.measure.machine import machine
from sparsight.measure.statistics import median
from sparsight.world.library import Library
from sparsight.world.paint import paint_batch
from sparsight.world.sampler import sample_scene
from sparsight.world.scene import Scene

GOAL = 300  # frames a second at 112 pixels on two cores
KINDS = {"films of 8 frames": 8, "pictures": 1}
RESULTS = Path(__file__).parent / "results" / "world_speed"


@dataclass(frozen=True)
class Work:
    """What one process measures."""

    sides: tuple[int, ...]
    threads: int
    sprites: Path | None
    device: str
    repeats: int
    worker: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 112, 224])
    parser.add_argument("--sprites", type=Path, help="a folder of photographs for the scenes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ways = [(1, 1), (1, cores or 1), (cores or 1, 1)] if options.device == "cpu" else [(1, 1)]
    load = os.getloadavg()[0]  # of other programs: on a busy machine only processor time counts
    rows: list[dict[str, Any]] = []
    for processes, threads in dict.fromkeys(ways):
        given = (tuple(options.sides), threads, options.sprites, options.device, options.repeats)
        # Each way starts anew: what one has cached must not help the next.
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            found = pool.map(measure, [Work(*given, worker) for worker in range(processes)], 1)
        for per_worker in zip(*found, strict=True):
            row = {
                **per_worker[0],
                "processes": processes,
                "threads": threads,
                "frames_per_second": sum(one["frames_per_second"] for one in per_worker),
                "cpu_ms_per_frame": median([one["cpu_ms_per_frame"] for one in per_worker]),
            }
            rows.append(row)
            print(row)
    rows.sort(key=lambda row: (row["side"], row["scenes"]))
    report(rows, options.repeats, options.device, load)


def measure(work: Work) -> list[dict[str, Any]]:
    """Frames a second and milliseconds of processor time a frame, for each side and kind: the
    median of batches of scenes that were not painted before, by a process that has painted."""
    torch.set_num_threads(work.threads)
    library = Library(work.sprites) if work.sprites else None
    seed = work.worker * 10**6
    early = [sample_scene(10**9 + k, frames=1, library=library) for k in range(256)]
    timed(early, min(work.sides), library, work.device)  # fonts, textures, the common sprites
    rows = []
    for side in work.sides:
        for kind, frames in KINDS.items():
            count = max(8, min(128, 2**21 // side**2)) // frames
            batches = []
            for _ in range(work.repeats + 1):
                seeds = range(seed, seed + count)
                batches.append([sample_scene(s, frames=frames, library=library) for s in seeds])
                seed += count
            timed(batches.pop(), side, library, work.device)  # memory
            times = [timed(batch, side, library, work.device) for batch in batches]
            rows.append(
                {
                    "side": side,
                    "scenes": kind,
                    "frames_per_second": count * frames / median([wall for wall, _ in times]),
                    "cpu_ms_per_frame": 1000 / (count * frames) * median([cpu for _, cpu in times]),
                }
            )
    return rows


def timed(
    scenes: Sequence[Scene], side: int, library: Library | None, device: str
) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a batch takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    paint_batch([(scene, scene.times) for scene in scenes], side, library=library, device=device)
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def report(rows: Sequence[dict[str, Any]], repeats: int, device: str, load: float) -> None:
    """Write the JSON and the table."""
    facts = {**machine(), "load": load}
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"machine": facts, "repeats": repeats, "device": device, "rows": rows}, indent=1)
        + "\n"
    )
    where = f"{facts['cpu']}, {facts['cores']} cores"
    if device != "cpu":
        where = facts["gpus"][0]["name"]
    lines = [
        "# Painting the world",
        "",
        f"{where}, load {load:.1f} before the start: medians of {repeats} batches of new scenes. "
        f"The goal is {GOAL} frames a second at 112 pixels on two cores.",
        "",
        "| side | scenes | processes x threads | frames a second | processor ms a frame |",
        "|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['side']} | {row['scenes']} | {row['processes']} x {row['threads']} "
            f"| {row['frames_per_second']:,.0f} | {row['cpu_ms_per_frame']:.2f} |"
        )
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
