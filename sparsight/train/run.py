"""Running a recipe: its stages one after the other, to a folder that `sparsight.load` opens.

```
OUT/run.json       the recipe as plain values, which a resumed run must agree with
OUT/log.jsonl      losses, metrics, rates, speed and memory, one JSON object a line
OUT/tensorboard/   the same as curves, where tensorboard is installed
OUT/checkpoints/   the last good checkpoint
OUT/model/         the trained model, there once the last stage is through
```
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from sparsight.core.errors import UserError, is_out_of_memory
from sparsight.train import checkpoints
from sparsight.train.adapters import Adapter
from sparsight.train.checkpoints import Checkpoint
from sparsight.train.data import Stream, order_of
from sparsight.train.faults import full_disk
from sparsight.train.logs import Log
from sparsight.train.objective import Learner, Objective
from sparsight.train.parameters import Pace, choose, paces
from sparsight.train.parts import Parts, load_parts
from sparsight.train.progress import Curves
from sparsight.train.recipe import Recipe, Stage, check, selected
from sparsight.train.run_folder import begin_run, is_main, open_run, rewind
from sparsight.train.settings import changed
from sparsight.train.stopping import Brake, Checks
from sparsight.train.trainer import StageTrainer, arguments, load_learned

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the folder of the model if it is through, and where it stands.

    stopped  why it ended early ("minutes"), or None
    """

    model: Path | None
    stage: str
    step: int
    stopped: str | None = None


def run(
    recipe: Recipe,
    out: Path | str,
    resume: bool = False,
    set: Mapping[str, Any] | None = None,  # the name is the command line's
    stages: Sequence[str] | None = None,
    *,
    minutes: float | None = None,
    device: str | None = None,
    callbacks: Callable[[Stage], Sequence[Any]] = lambda stage: (),
) -> Outcome:
    """Run a recipe.

    Args:
        out: the folder that everything is written to.
        resume: go on from the last checkpoint in `out`; without one, from the beginning.
        set: other values for keys of the recipe, see `settings.changed`.
        stages: the names of the stages to run; None is all.
        minutes: stop with a checkpoint after so long; go on with `resume`.
        device: "cpu" keeps off a GPU that is there.
        callbacks: transformers' `TrainerCallback`s for a stage, such as a progress bar.

    Raises `UserError` for mistakes in the recipe (keys, ranges, patterns), a folder that is taken,
    a recipe that has changed since, a loss that is not finite, memory that ran out; `OSError`
    when the disk is full; `KeyboardInterrupt` after a Ctrl-C, with a checkpoint written.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise UserError("training needs accelerate: install sparsight[train]")
    recipe = selected(changed(recipe, set or {}), None if stages is None else tuple(stages))
    check(recipe)
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"unknown device {device!r} (known: cpu, cuda)")
    out = Path(out)
    start = open_run(recipe, out, resume)
    if start.through:
        last = recipe.stages[-1]
        return Outcome(out / "model", last.name, last.steps)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it does not go with forked loaders
    with _quiet(), _denormals_flushed(), Brake(minutes) as brake:
        return _Run(recipe, out, device == "cpu", brake, callbacks).go(start.checkpoint)


def export(
    recipe: Recipe,
    out: Path | str,
    folder: Path | str,
    set: Mapping[str, Any] | None = None,
    stages: Sequence[str] | None = None,
) -> Checkpoint:
    """Write the model as the last checkpoint of a run in `out` has it, to look at it on the way.

    Args are those of `run`; `folder` is replaced whole. Raises `UserError` where the recipe has
    changed or nothing was saved yet.
    """
    recipe = selected(changed(recipe, set or {}), None if stages is None else tuple(stages))
    check(recipe)
    open_run(recipe, Path(out), resume=True)
    names = [stage.name for stage in recipe.stages]
    found = checkpoints.last(Path(out) / "checkpoints", names)
    if found is None:
        raise UserError(f"{out} holds no checkpoint yet")
    with _quiet(), checkpoints.whole(Path(folder)) as part:
        _Run(recipe, Path(out), True, Brake(), lambda stage: ()).restored(found).save(
            part, _DTYPES[recipe.dtype]
        )
    return found


@dataclass(frozen=True)
class _Done:
    """What became of a stage: its last step, its last checkpoint, whether FSDP sharded it."""

    step: int
    checkpoint: Path
    sharded: bool


@contextlib.contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers too small to be normal count as zero: on CPUs they are slow beyond measure."""
    tiny = torch.tensor(1e-40)
    before = bool((tiny * 1.0) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class _Run:
    """A run on its way through the stages."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        cpu: bool,
        brake: Brake,
        callbacks: Callable[[Stage], Sequence[Any]],
    ) -> None:
        self.recipe = recipe
        self.out = out
        self.cpu = cpu
        self.brake = brake
        self.callbacks = callbacks
        self.log = Log(out / "log.jsonl")
        self.learned: set[str] = set()
        self.data: dict[str, Any] = {}  # the data sets of the stages to come
        self.heads: dict[str, Any] = {}  # the objective's state, from stage to stage

    def go(self, checkpoint: Checkpoint | None) -> Outcome:
        stages, names = self.recipe.stages, [stage.name for stage in self.recipe.stages]
        begin = 0 if checkpoint is None else names.index(checkpoint.stage)
        parts = self._build()
        for place, stage in enumerate(stages[begin:], begin):
            self._look_over(place, stage, parts)
        self.learned.clear()
        self.heads = {}
        if is_main():
            begin_run(self.recipe, self.out)
            rewind(self.log, names, checkpoint)
        adapter = None
        for place, stage in enumerate(stages[begin:], begin):
            adapter, learner, speeds = self._ready(place, stage, parts)
            if checkpoint is not None:
                self.learned |= load_learned(learner, checkpoint.folder)
            if checkpoint is None or checkpoint.step < stage.steps:
                done = self._train(place, stage, learner, speeds, checkpoint)
                if done.step < stage.steps:
                    return Outcome(None, stage.name, done.step, "minutes")
                if done.sharded:  # FSDP has taken the model to pieces: put it together anew
                    parts = self._build()
                    adapter, learner, _ = self._ready(place, stage, parts)
                    load_learned(learner, done.checkpoint)
            checkpoint = None
            self.heads = dict(learner.objective.state_dict())
            if adapter is not None and stage.merge:
                self.learned |= adapter.weights
                adapter.merge()
        apart = None if stages[-1].merge else adapter
        return Outcome(self._write(parts, apart), names[-1], stages[-1].steps)

    def restored(self, checkpoint: Checkpoint) -> Parts:
        """The model as a checkpoint has it, adapters folded in."""
        parts = self._build()
        names = [stage.name for stage in self.recipe.stages]
        place = names.index(checkpoint.stage)
        adapter, learner, _ = self._ready(place, self.recipe.stages[place], parts)
        load_learned(learner, checkpoint.folder)
        if adapter is not None:
            adapter.merge()
        return parts

    def _look_over(self, place: int, stage: Stage, parts: Parts) -> None:
        """Find the mistakes of a stage before hours are spent on those before it."""
        adapter, learner, _ = self._ready(place, stage, parts)
        if adapter is not None:
            adapter.drop()
        self.heads = dict(learner.objective.state_dict())
        data = self.data[stage.name] = stage.data()
        order_of(data, 0, stage.shuffle, stage.group_by_length, stage.batch)
        if stage.pack is not None and not learner.objective.packs:
            raise UserError(f"stages.{stage.name}.pack: its objective does not pack")

    def _build(self) -> Parts:
        transformers.set_seed(self.recipe.seed)
        if isinstance(self.recipe.model, str):
            return load_parts(self.recipe.model, _DTYPES[self.recipe.weights])
        parts = self.recipe.model()
        parts.model.to(_DTYPES[self.recipe.weights])
        return parts

    def _seed(self, place: int) -> int:
        """Each stage has its own random numbers, whatever the stages before it drew."""
        return self.recipe.seed * 1000 + 1 + place

    def _ready(
        self, place: int, stage: Stage, parts: Parts
    ) -> tuple[Adapter | None, Learner, Mapping[str, Pace]]:
        """A stage's adapter, its module to train, and how fast each parameter learns."""
        transformers.set_seed(self._seed(place))
        adapter = None
        if stage.adapter is not None:
            adapter = Adapter(parts.model, stage.adapter, stage.name)
        objective = stage.objective(parts)
        objective.pack, objective.seed = stage.pack, self._seed(place)
        take_over(objective, self.heads)
        learner = Learner(objective)
        self.learned |= set(choose(learner, stage.train, stage.name))
        found = paces(learner, stage.rates, stage.weight_decay, stage.name, stage.muon)
        return adapter, learner, found

    def _train(
        self,
        place: int,
        stage: Stage,
        learner: Learner,
        speeds: Mapping[str, Pace],
        checkpoint: Checkpoint | None,
    ) -> _Done:
        """Train a stage to its end, or to where it is stopped."""
        seed, folder = self._seed(place), self.out / "checkpoints"
        args = arguments(self.recipe, stage, folder, seed, self.cpu)
        data = self.data.pop(stage.name)
        order = order_of(data, seed, stage.shuffle, stage.group_by_length, stage.batch)
        length = stage.steps * stage.accumulate * stage.batch * args.world_size
        stream = Stream(data, length, order, learner.objective.prepare)
        trainer = StageTrainer(stage, learner, stream, args, speeds, self.log, self.learned)
        for callback in self._callbacks(place, stage, learner):
            trainer.add_callback(callback)
        source = None
        if checkpoint is not None:
            trainer.go_on(checkpoint)
            source = str(checkpoint.folder)
        try:
            trainer.train(resume_from_checkpoint=source)
        except Exception as error:
            if is_out_of_memory(error):
                raise UserError(_memory_advice(stage)) from error
            raise
        self.brake.finish()
        learner.zero_grad()
        assert trainer.good is not None  # the last step of a training always saves
        return _Done(trainer.state.global_step, trainer.good, trainer.is_fsdp_enabled)

    def _callbacks(self, place: int, stage: Stage, learner: Learner) -> list[Any]:
        found: list[Any] = [self.brake]
        if Curves.possible():
            before = sum(item.steps for item in self.recipe.stages[:place])
            found.append(Curves(self.out / "tensorboard", before))
        if stage.check is not None and stage.check_every:
            found.append(Checks(stage, learner, self.log))
        return [*found, *self.callbacks(stage)]

    def _write(self, parts: Parts, apart: Adapter | None) -> Path:
        """Write the trained model, whole or not at all."""
        target = self.out / "model"
        if not is_main():
            return target
        try:
            if apart is not None:
                base = self.recipe.model if isinstance(self.recipe.model, str) else ""
                with checkpoints.whole(self.out / "adapter") as folder:
                    apart.save(folder, base)
                apart.merge()
            with checkpoints.whole(target) as folder:
                parts.save(folder, _DTYPES[self.recipe.dtype])
        except Exception as error:
            raise full_disk(error, "the model", self.out / "checkpoints") from error
        return target


def take_over(objective: Objective, heads: Mapping[str, Any]) -> None:
    """Give an objective the trained read-outs of the stage before that it has too."""
    own = objective.state_dict()
    for name, value in heads.items():
        if name in own and own[name].shape != value.shape:
            raise UserError(
                f"objective.{name} is {tuple(own[name].shape)} in this stage and "
                f"{tuple(value.shape)} in the one before: give it another name"
            )
    objective.load_state_dict({n: v for n, v in heads.items() if n in own}, strict=False)


def _memory_advice(stage: Stage) -> str:
    key, batch = f"stages.{stage.name}", max(1, stage.batch // 2)
    if stage.batch == 1:
        return (
            f"out of memory in stage {stage.name!r} with one sample at a time: use shorter "
            "samples, bfloat16, an adapter, or FSDP over several devices"
        )
    return (
        f"out of memory in stage {stage.name!r} with {stage.batch} samples at a time: the same "
        f"step in smaller pieces is --set {key}.batch={batch} "
        f"--set {key}.accumulate={stage.accumulate * 2}"
    )


@contextlib.contextmanager
def _quiet() -> Any:
    """Transformers' own remarks go; what matters is said by our errors."""
    talk = transformers.logging
    before, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    try:
        yield
    finally:
        talk.set_verbosity(before)
        if bars:
            talk.enable_progress_bar()
