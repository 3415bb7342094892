"""Decoding a few frames of real films: Sparsight against plain PyAV, OpenCV and torchcodec.

Every reader does the whole job: open the file, learn how many frames there are, give `n` evenly
spread ones as RGB uint8. The readers take turns, repeat by repeat, so that whatever else the
machine does falls on all alike. Reported: the median wall time, the CPU time (user and system, all
threads; least disturbed by other work), and the ratio to the best of the others that gave the
right frames: those that PyAV gives when it decodes the film from its first packet to its last.
While timing, freed memory is kept in the process (`steady_memory`).

    python benchmarks/decode.py [--data ../shared/data/video] [--seconds 6] [--clips a.mp4 b.avi]

With --clips the rows of other clips stay as they are.
Writes benchmarks/results/decode.json and decode.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from steady_memory import keep_freed_memory

from sparsight.measure.statistics import interval_of_median
from sparsight.media import Limits, load, parse_selection
from sparsight.media.film import turn_of
from sparsight.media.torchcodec_film import decoders

CLIPS = (
    "llavamini_safari.mp4",
    "llavanext_jobs.mp4",
    "llavanext_xU25MMA2N4aVtYay.mp4",
    "mmaction2_demo.mp4",
    "mmaction2_ntu_S001C001P001R001A001_rgb.avi",
    "mmaction2_test.avi",
    "quiltllava_histopathology_teaser.mp4",
    "stllm_driving.mp4",
    "videollama_applausing.mp4",
    "videollama_skateboarding_dog.mp4",
    "codec/av1_video.mkv",
    "codec/nasa_13013_hdr.mp4",
    "codec/testsrc2_vp9.webm",
    "grid_lipreading/bbaf2n.mpg",
)
COUNTS = (8, 32, 64)
CLOCKS = ("wall", "cpu")
GOAL = 1.05
RESULTS = Path(__file__).parent / "results"

Reader = Callable[[Path, int], torch.Tensor]


def spread(total: int, count: int) -> list[int]:
    """`count` of `total` indices, both ends included."""
    return np.linspace(0, total - 1, min(count, total), dtype=int).tolist()


def sparsight(backend: str) -> Reader:
    """Sparsight with one backend; "auto" is what a user gets."""

    def read(path: Path, count: int) -> torch.Tensor:
        clip = load(path, backend=backend, limits=Limits(decoded_bytes=None))  # type: ignore[arg-type]
        return clip.frames(parse_selection(f"uniform:{count}").indices(clip))

    return read


def pyav(path: Path, count: int) -> torch.Tensor:
    """PyAV from the first frame to the last one wanted, converting only those wanted."""
    total = pyav_total(path)
    wanted = set(spread(total, count))
    frames = []
    with av.open(path) as container:
        stream = container.streams.best("video")
        assert stream is not None
        stream.thread_type = "AUTO"  # type: ignore[attr-defined]
        for i, frame in enumerate(container.decode(stream)):
            assert isinstance(frame, av.VideoFrame)
            if i in wanted:
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
            if len(frames) == len(wanted):
                break
    return torch.stack(frames)


def pyav_total(path: Path) -> int:
    """How many frames there are: from the header, else by counting packets."""
    with av.open(path) as container:
        stream = container.streams.best("video")
        assert stream is not None
        return stream.frames or sum(1 for packet in container.demux(stream) if packet.size)


def opencv(path: Path, count: int) -> torch.Tensor:
    """OpenCV from the first frame on, converting only those wanted."""
    capture = cv2.VideoCapture(str(path))
    wanted = spread(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), count)
    frames, due = [], set(wanted)
    for i in range(wanted[-1] + 1):
        if not capture.grab():
            break
        if i in due:
            frames.append(torch.from_numpy(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)))
    capture.release()
    return torch.stack(frames)


def torchcodec(threads: int) -> Reader:
    """torchcodec as its documentation uses it, with its default of one thread or with more."""

    def read(path: Path, count: int) -> torch.Tensor:
        module = decoders()
        assert module is not None
        decoder = module.VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=threads)
        return decoder.get_frames_at(spread(len(decoder), count)).data

    return read


Neighbours = list[dict[int, torch.Tensor]]


def truth(path: Path, counts: Sequence[int]) -> dict[int, Neighbours]:
    """For each count the frames wanted, counted in a film that is decoded as a whole, upright;
    each at 0, and its neighbours at -1 and 1."""
    with av.open(path) as container:
        total = sum(1 for _ in container.decode(container.streams.best("video")))
    steps = (-1, 0, 1)
    needed = {i + step for count in counts for i in spread(total, count) for step in steps}
    frames = {}
    with av.open(path) as container:
        for i, frame in enumerate(container.decode(container.streams.best("video"))):
            assert isinstance(frame, av.VideoFrame)
            if i in needed:
                upright = turn_of(frame).apply(frame.to_ndarray(format="rgb24"))
                frames[i] = torch.from_numpy(upright.copy())
    return {
        count: [
            {step: frames[i + step] for step in steps if i + step in frames}
            for i in spread(total, count)
        ]
        for count in counts
    }


def is_right(frames: torch.Tensor, expected: Neighbours) -> bool:
    """Whether each frame is nearer to the one expected than to its neighbours: readers may convert
    colours in their own way."""
    if len(frames) != len(expected):
        return False
    for frame, around in zip(frames, expected, strict=True):
        if frame.shape != around[0].shape:
            return False
        apart = {k: (frame.short() - other.short()).abs().sum() for k, other in around.items()}
        if apart[0] > min(apart.values()):
            return False
    return True


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Times:
    """What one reader needed, repeat by repeat, and whether its frames were right."""

    right: bool
    wall: list[float]
    cpu: list[float]


def measure(
    readers: dict[str, Reader], path: Path, count: int, expected: Neighbours, options: Namespace
) -> dict[str, Times]:
    """Seconds of each reader; one that fails is left out."""
    times: dict[str, Times] = {}
    names = list(readers)
    for name in list(names):  # the warm-up
        try:
            times[name] = Times(is_right(readers[name](path, count), expected), [], [])
        except (RuntimeError, ValueError) as error:
            print(f"  {name} fails on {path.name}: {type(error).__name__}")
            names.remove(name)
    until = time.perf_counter() + options.seconds
    repeat = 0
    while repeat < options.repeats or time.perf_counter() < until:
        first = repeat % len(names)
        for name in (*names[first:], *names[:first]):
            began, used = time.perf_counter(), cpu_seconds()
            frames = readers[name](path, count)
            times[name].wall.append(time.perf_counter() - began)
            times[name].cpu.append(cpu_seconds() - used)
            del frames
        repeat += 1
    return times


def row_of(clip: str, count: int, times: dict[str, Times]) -> dict:
    """The report's row: medians, and Sparsight's ratio to the best of the others that are right.

    The ratio is the median of those of the repeats, with the interval that holds it in 95 %.
    """
    ours = times["sparsight auto"]
    if not ours.right:
        raise SystemExit(f"{clip}, {count} frames: Sparsight gives wrong frames")
    others = [t for name, t in times.items() if t.right and not name.startswith("sparsight")]
    row: dict = {"clip": clip, "frames": count, "repeats": len(ours.wall), "readers": {}}
    for name, t in times.items():
        medians = {kind: round(statistics.median(getattr(t, kind)), 5) for kind in CLOCKS}
        row["readers"][name] = {"right": t.right, **medians}
    for kind in CLOCKS:
        best = min((getattr(t, kind) for t in others), key=statistics.median)
        ratios = [a / b for a, b in zip(getattr(ours, kind), best, strict=True)]
        low, high = interval_of_median(ratios)
        row[f"ratio_{kind}"] = {
            "median": round(statistics.median(ratios), 3),
            "low": round(low, 3),
            "high": round(high, 3),
        }
    return row


def machine() -> dict[str, object]:
    """What the figures were made on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    names = ("av", "torch", "torchcodec", "opencv-python-headless", "numpy", "sparsight")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "ffmpeg of PyAV": ".".join(map(str, av.library_versions["libavcodec"])),
        **versions,
    }


def cell(times: dict | None) -> str:
    """What one reader needed for one row."""
    if times is None:
        return "fails"
    both = f"{1e3 * times['wall']:.1f} / {1e3 * times['cpu']:.1f}"
    return both if times["right"] else f"*{both}*"


def table(report: dict) -> str:
    """The report in Markdown: one row a clip and count, milliseconds, wall median / CPU median."""
    readers = report["readers"]
    others = [name for name in readers if not name.startswith("sparsight")]
    lines = [
        "# Decoding uniform frames",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in report["machine"].items()) + ".",
        "Milliseconds: median wall / median CPU. Ratio: Sparsight (auto) to the best of "
        + ", ".join(others)
        + " whose frames are right, median of the repeats with its 95 % interval; below 1 is "
        "faster. *Italic: wrong frames.*",
        "",
        "| clip | frames | repeats | " + " | ".join(readers) + " | ratio wall | ratio CPU |",
        "|---|---:|---:|" + "---:|" * (len(readers) + 2),
    ]
    for row in report["rows"]:
        cells = [
            row["clip"],
            str(row["frames"]),
            str(row["repeats"]),
            *(cell(row["readers"].get(name)) for name in readers),
            *("{median:.2f} [{low:.2f}, {high:.2f}]".format(**row[f"ratio_{k}"]) for k in CLOCKS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for kind in CLOCKS:
        ratios = [row[f"ratio_{kind}"] for row in report["rows"]]
        medians = [ratio["median"] for ratio in ratios]
        lines += [
            "",
            f"{kind}: median ratio {statistics.median(medians):.2f}, worst {max(medians):.2f}; of "
            f"{len(ratios)} rows {sum(m <= GOAL for m in medians)} are at most {GOAL}, and "
            f"{sum(ratio['low'] > GOAL for ratio in ratios)} are above it beyond doubt.",
        ]
    return "\n".join(lines) + "\n"


def kept_rows(clips: Sequence[str]) -> list[dict]:
    """Rows of the last report that are of other clips, if it was made on this kind of machine."""
    path = RESULTS / "decode.json"
    if not path.exists():
        return []
    last, now = json.loads(path.read_text()), machine()
    if any(last["machine"].get(key) != now[key] for key in ("cpu", "cores", "python")):
        return []
    return [row for row in last["rows"] if row["clip"] not in clips]


def main() -> None:
    """Run everything and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = Path(__file__).parents[2] / "shared" / "data" / "video"
    parser.add_argument("--data", type=Path, default=default, help="folder of the clips")
    parser.add_argument("--repeats", type=int, default=7, help="of each row, at least")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row, at least")
    parser.add_argument("--clips", nargs="*", default=CLIPS, choices=CLIPS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()

    readers: dict[str, Reader] = {"sparsight auto": sparsight("auto"), "PyAV": pyav}
    readers["OpenCV"] = opencv
    if decoders() is not None:
        readers["sparsight pyav"] = sparsight("pyav")
        readers["torchcodec"] = torchcodec(1)
        cores = os.cpu_count() or 1
        if cores > 1:
            readers[f"torchcodec, {cores} threads"] = torchcodec(cores)
    rows = kept_rows(options.clips)
    for clip in options.clips:
        expected = truth(options.data / clip, COUNTS)
        for count in COUNTS:
            times = measure(readers, options.data / clip, count, expected[count], options)
            rows.append(row_of(clip, count, times))
            wall, cpu = (rows[-1][f"ratio_{kind}"]["median"] for kind in CLOCKS)
            print(f"{clip} {count}: wall {wall:.2f} CPU {cpu:.2f}")
        report = {
            "machine": machine(),
            "readers": list(readers),
            "rows": sorted(rows, key=lambda row: (list(CLIPS).index(row["clip"]), row["frames"])),
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "decode.json").write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / "decode.md").write_text(table(report))


if __name__ == "__main__":
    main()
