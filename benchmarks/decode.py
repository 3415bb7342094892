"""Decoding a few frames of real films: Sparsight against plain PyAV, OpenCV and torchcodec.

Every reader does the whole job: open the file, learn how many frames there are, give `n` evenly
spread ones as RGB uint8. The readers take turns, repeat by repeat, so that whatever else the
machine does falls on all alike. Reported: the median wall time, the CPU time (user and system, all
threads; least disturbed by other work), and the ratio to the best of the others.

    python benchmarks/decode.py [--data ../shared/data/video] [--repeats 7] [--clips a.mp4 b.avi]

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
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from sparsight.media import Limits, load, parse_selection
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


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(readers: dict[str, Reader], path: Path, count: int, repeats: int) -> dict[str, dict]:
    """Median and least wall and CPU seconds of each reader; one that fails is left out."""
    wall: dict[str, list[float]] = {name: [] for name in readers}
    cpu: dict[str, list[float]] = {name: [] for name in readers}
    failed = set()
    for repeat in range(repeats + 1):  # the first is the warm-up
        for name, read in readers.items():
            if name in failed:
                continue
            began, used = time.perf_counter(), cpu_seconds()
            try:
                read(path, count)
            except (RuntimeError, ValueError) as error:
                print(f"  {name} fails on {path.name}: {type(error).__name__}")
                failed.add(name)
                continue
            if repeat:
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(cpu_seconds() - used)
    return {
        name: {
            "wall_median": statistics.median(wall[name]),
            "wall_least": min(wall[name]),
            "cpu_median": statistics.median(cpu[name]),
            "cpu_least": min(cpu[name]),
        }
        for name in readers
        if name not in failed
    }


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


def table(report: dict) -> str:
    """The report in Markdown: one row a clip and count, milliseconds, wall median / CPU median."""
    readers = report["readers"]
    others = [name for name in readers if not name.startswith("sparsight")]
    lines = [
        "# Decoding uniform frames",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in report["machine"].items()) + ".",
        f"{report['repeats']} repeats after one warm-up, readers taking turns.",
        "Milliseconds: median wall / median CPU. Ratio: Sparsight (auto) to the best of "
        + ", ".join(others)
        + "; below 1 is faster.",
        "",
        "| clip | frames | " + " | ".join(readers) + " | ratio wall | ratio CPU |",
        "|---|---:|" + "---:|" * (len(readers) + 2),
    ]
    for row in report["rows"]:
        cells = [
            f"{1e3 * row['times'][name]['wall_median']:.1f} / "
            f"{1e3 * row['times'][name]['cpu_median']:.1f}"
            if name in row["times"]
            else "fails"
            for name in readers
        ]
        lines.append(
            f"| {row['clip']} | {row['frames']} | "
            + " | ".join(cells)
            + f" | {row['ratio_wall']:.2f} | {row['ratio_cpu']:.2f} |"
        )
    for kind in ("wall", "cpu"):
        ratios = [row[f"ratio_{kind}"] for row in report["rows"]]
        lines += [
            "",
            f"{kind}: median ratio {statistics.median(ratios):.2f}, worst {max(ratios):.2f}, "
            f"within 1.05 in {sum(r <= 1.05 for r in ratios)} of {len(ratios)} rows.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = Path(__file__).parents[2] / "shared" / "data" / "video"
    parser.add_argument("--data", type=Path, default=default, help="folder of the clips")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clips", nargs="*", default=CLIPS)
    options = parser.parse_args()
    torch.set_num_threads(1)

    readers: dict[str, Reader] = {"sparsight auto": sparsight("auto"), "PyAV": pyav}
    readers["OpenCV"] = opencv
    if decoders() is not None:
        readers["sparsight pyav"] = sparsight("pyav")
        readers["torchcodec"] = torchcodec(1)
        cores = os.cpu_count() or 1
        if cores > 1:
            readers[f"torchcodec, {cores} threads"] = torchcodec(cores)
    rows = []
    for clip in options.clips:
        for count in COUNTS:
            times = measure(readers, options.data / clip, count, options.repeats)
            ours = times["sparsight auto"]
            best = {
                kind: min(t[kind] for name, t in times.items() if not name.startswith("sparsight"))
                for kind in ours
            }
            ratios = {
                "ratio_wall": ours["wall_median"] / best["wall_median"],
                "ratio_cpu": ours["cpu_median"] / best["cpu_median"],
            }
            rows.append({"clip": clip, "frames": count, "times": times, **ratios})
            print(f"{clip} {count}: wall {ratios['ratio_wall']:.2f} CPU {ratios['ratio_cpu']:.2f}")
        report = {
            "machine": machine(),
            "repeats": options.repeats,
            "readers": list(readers),
            "rows": rows,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "decode.json").write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / "decode.md").write_text(table(report))


if __name__ == "__main__":
    main()
