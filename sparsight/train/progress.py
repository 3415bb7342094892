"""How a training shows itself while it goes on: a bar on a terminal, lines elsewhere, curves."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from sparsight.train.recipe import Stage


class Show:
    """Shows the stages of a run on stderr; `callbacks` is what `run` takes.

    On a terminal a bar for each stage, with the last losses and the time that is left; elsewhere
    one plain line for each line of the log.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
        )
        self.bars = Progress(*columns, console=self.console) if self.console.is_terminal else None

    def __enter__(self) -> Show:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def callbacks(self, stage: Stage) -> list[TrainerCallback]:
        return [_Bar(self, stage)]


class _Bar(TrainerCallback):
    def __init__(self, show: Show, stage: Stage) -> None:
        self.show = show
        self.stage = stage
        self.task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        bars = self.show.bars
        if bars is not None and state.is_world_process_zero:
            self.task = bars.add_task(
                self.stage.name, total=self.stage.steps, completed=state.global_step, last=""
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.task is not None:
            self.show.bars.update(self.task, completed=state.global_step)  # type: ignore[union-attr]

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not state.is_world_process_zero or "loss" not in logs:
            return
        text = in_words(logs)
        if self.task is not None:
            self.show.bars.update(self.task, last=text)  # type: ignore[union-attr]
        elif self.show.bars is None:
            step = f"{self.stage.name} {state.global_step}/{self.stage.steps}"
            self.show.console.print(f"{step}  {text}", markup=False, soft_wrap=True)


def in_words(record: Mapping[str, Any]) -> str:
    """The loss, speed and memory of a line of the log."""
    text = (
        f"loss {record['loss']:.4f}, {record['samples_per_second']:g} samples/s, "
        f"{record['memory_mib']:,} MiB"
    )
    return text + (f", {record['skipped']} skipped" if record["skipped"] else "")


class Curves(TrainerCallback):
    """Writes every number of the log for tensorboard, where that is installed.

    Args:
        folder: where its files go.
        before: steps of the stages before this one, on which its steps count on.
    """

    def __init__(self, folder: Path, before: int) -> None:
        self.folder = folder
        self.before = before
        self.writer: Any = None

    @staticmethod
    def possible() -> bool:
        """Whether tensorboard is installed."""
        return importlib.util.find_spec("tensorboard") is not None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            from torch.utils.tensorboard import SummaryWriter

            purge = self.before + state.global_step + 1
            self.writer = SummaryWriter(str(self.folder), purge_step=purge)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.writer is None:
            return
        for name, value in logs.items():
            if isinstance(value, int | float) and name != "step":
                self.writer.add_scalar(name, value, self.before + state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.writer is not None:
            self.writer.close()
