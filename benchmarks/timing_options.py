"""The options that all timing benchmarks share, and what they set before anything is measured."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from random_models import SHAPES
from steady_memory import keep_freed_memory


def timing_parser(doc: str, name: str, shape: str, repeats: int) -> argparse.ArgumentParser:
    """A parser with --shape, --device, --dtype, --repeats, --threads, --clock and --out.

    Args:
        doc: the script's docstring, whose first line is shown.
        name: of the results' files.
        shape, repeats: the defaults.
    """
    results = Path(__file__).resolve().parent / "results"
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default=shape)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, which other programs do not lengthen; with --threads 1",
    )
    parser.add_argument("--out", type=Path, default=results / name)
    return parser


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the options and set clock, memory and threads; call it before anything is timed."""
    options = parser.parse_args()
    if options.clock == "cpu":
        if options.device != "cpu" or options.threads != 1:
            parser.error("--clock cpu needs --device cpu --threads 1")
        time.perf_counter = time.process_time
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    return options
