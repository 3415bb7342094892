"""Runs the tiny recipe in processes that are killed with -9, each time at another point.

    python -m tests.train.crashes FOLDER

Writes FOLDER/whole (one run, left alone) and FOLDER/killed (killed again and again, resumed each
time). Imports once and forks for each run, so that a dozen kills take seconds.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from sparsight.train import checkpoints
from sparsight.train.run import run
from tests.train.tiny import CountedLetters, recipe, stage

STEPS = 6
RECIPE = recipe(
    stage("first", steps=STEPS, train=("model.layers.1.*", "objective.*"), save_every=2),
    stage(
        "second",
        steps=STEPS,
        data=lambda: CountedLetters(10),
        save_every=3,
        accumulate=2,
        muon=("model.layers.*",),
    ),
)
#: (event, how many of its kind pass before the kill), in the order of the runs.
KILLS = [
    ("step_end", 0), ("sync", 0), ("step_end", 2), ("put", 1), ("step_begin", 1), ("pruned", 0),
    ("step_end", 0), ("exported", 0),
]  # fmt: skip


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(TrainerCallback):
    """Kills its process at the event whose turn it is."""

    def __init__(self, event: str, left: int) -> None:
        self.event = event
        self.left = left

    def happens(self, event: str) -> None:
        if event == self.event:
            if self.left == 0:
                die()
            self.left -= 1

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.happens("step_begin")

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.happens("step_end")

    def watch(self, name: str, event: str, after: bool = False) -> None:
        """Call `happens` before or after a function of `checkpoints`."""
        real = getattr(checkpoints, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if not after:
                self.happens(event)
            done = real(*arguments, **options)
            if after:
                self.happens(event)
            return done

        setattr(checkpoints, name, watched)


def in_child(out: Path, kill: tuple[str, int] | None) -> int:
    """Run or resume in a process of its own; its exit status as `os.wait` gives it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    torch.set_num_threads(1)
    killer = Killer(*(kill or ("never", 0)))
    for name, event, after in (
        ("sync", "sync", False), ("put", "put", False), ("prune", "pruned", False),
        ("whole", "exported", False),
    ):  # fmt: skip
        killer.watch(name, event, after)
    try:
        run(RECIPE, out, resume=True, device="cpu", callbacks=lambda _: [killer])
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for module in ("accelerate", "peft", "torch.utils.tensorboard", "torch._dynamo"):
        importlib.import_module(module)  # here, so that no child has to
    assert in_child(folder / "whole", None) == 0
    for kill in KILLS:
        assert in_child(folder / "killed", kill) == signal.SIGKILL, f"{kill} never came"
    assert in_child(folder / "killed", None) == 0
