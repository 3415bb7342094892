"""When is it cheaper to seek than to read on? The rule `JUMP` of `sparsight.media.index`, measured.

    python benchmarks/seek.py

Uniform frames of real clips, with the rule set to several numbers of frames: up to that many
frames before the next key frame are decoded and thrown away, beyond it the reader seeks.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from sparsight.measure.machine import machine
from sparsight.measure.statistics import median
from sparsight.media import index, load, parse_selection

RULES = (0, 2, 4, 8, 16, 32, 64)
RESULTS = Path(__file__).parent / "results" / "seek"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/video"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    clips = sorted(path for path in options.data.glob("*.mp4") if len(load(path).key_frames) > 1)
    if not clips:
        parser.error(f"no film with more than one key frame in {options.data}")
    rows: list[dict[str, Any]] = []
    for clip in clips:
        for count in (8, 32):
            seconds: dict[int, list[float]] = {rule: [] for rule in RULES}
            for _ in range(options.repeats):
                for rule in RULES:  # taking turns
                    index.JUMP = rule
                    seconds[rule].append(timed(clip, count))
            found = {rule: median(values) for rule, values in seconds.items()}
            rows.append({"clip": clip.name, "frames": count, "seconds": found})
            best = min(found.values())
            print(clip.name, count, {rule: round(s / best, 2) for rule, s in found.items()})
    report(rows, options.repeats)


def timed(clip: Path, count: int) -> float:
    """Seconds of decoding `count` uniform frames, opening and indexing included."""
    started = time.perf_counter()
    film = load(clip, backend="pyav")
    film.frames(parse_selection(f"uniform:{count}").indices(film))
    return time.perf_counter() - started


def report(rows: list[dict[str, Any]], repeats: int) -> None:
    """Write the JSON and the table of each rule's time over the best rule's."""
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"machine": machine(), "repeats": repeats, "rows": rows}, indent=1) + "\n"
    )
    lines = [
        "# Seek or read on",
        "",
        f"{machine()['cpu']}, medians of {repeats} interleaved runs: time over the best rule's.",
        "",
        "| clip | frames | " + " | ".join(f"up to {rule}" for rule in RULES) + " |",
        "|---|---:" + "|---:" * len(RULES) + "|",
    ]
    for row in rows:
        best = min(row["seconds"].values())
        ratios = " | ".join(f"{row['seconds'][rule] / best:.2f}" for rule in RULES)
        lines.append(f"| {row['clip']} | {row['frames']} | {ratios} |")
    means = []
    for rule in RULES:
        over = [row["seconds"][rule] / min(row["seconds"].values()) for row in rows]
        means.append(f"{sum(over) / len(over):.2f}")
    lines.append("| mean | | " + " | ".join(means) + " |")
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
