"""What a training run is: a `Recipe` of `Stage`s, plain values and functions.

A recipe file holds one function without arguments:

```python
def recipe() -> Recipe:
    return Recipe("mini", build, (Stage("look", data=views, objective=Look, ...), ...))
```
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import Dataset

from sparsight.core.errors import UserError, unknown
from sparsight.train.next_token import NextToken
from sparsight.train.objective import Objective
from sparsight.train.parts import Parts
from sparsight.train.schedule import SCHEDULES

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Lora:
    """An adapter of low rank (peft) on linear layers.

    layers   patterns of the names of the layers it is put on, such as "*.q_proj"
    rank     its rank; its output is scaled by alpha / rank
    dropout  of its input
    """

    layers: tuple[str, ...] = ("*language_model*.q_proj", "*language_model*.v_proj")
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    name       letters, digits and dashes; names its checkpoints and its keys in `--set`
    data       makes the data set. Item i must be a function of i alone, so that resuming is
               exact. With `__len__` it is shuffled anew each epoch; without, it is endless and
               read in order: the samples of step s are the next batch * accumulate * processes
    objective  makes what is learned, from the parts; by default the next token of answers
    train      patterns (fnmatch) of the parameters that learn; all others are frozen. The
               model's parameters go by their own names, the objective's by "objective.NAME"
    rates      pattern -> peak learning rate; the first that matches counts
    muon       patterns of the learning matrices that Muon moves, at the same rates; AdamW moves
               all else. For the matrices between hidden states: not embeddings, not heads
    batch      samples of one forward on one device; `accumulate` of them make a step
    warmup     share of the steps over which the rates rise
    floor      share of the peak rates at which "cosine" and "linear" end
    clip       the largest norm of the gradient; 0 does not clip
    precision  "bfloat16" runs the forward under autocast; the weights stay as they are
    shuffle    off: data with a length is read in its order, too
    pack       tokens that a row may hold: samples share rows, each sees only itself
    adapter    adapter layers, which learn beside what `train` names
    merge      off: the adapter is also written apart, for its base model. Only in a recipe of
               this one stage, on a named checkpoint of which nothing else learns
    check      called every `check_every` steps (0: never) with the parts, in evaluation mode;
               what it returns is logged. It must not change the parts
    """

    name: str
    data: Callable[[], Dataset]
    steps: int
    train: tuple[str, ...]
    objective: Callable[[Parts], Objective] = NextToken
    rates: Mapping[str, float] = field(default_factory=lambda: {"*": 1e-4})
    muon: tuple[str, ...] = ()
    batch: int = 8
    accumulate: int = 1
    warmup: float = 0.03
    schedule: str = "cosine"
    floor: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    precision: str = "float32"
    shuffle: bool = True
    group_by_length: bool = False
    pack: int | None = None
    adapter: Lora | None = None
    merge: bool = True
    save_every: int = 500
    log_every: int = 10
    workers: int = 0
    check: Callable[[Parts], Mapping[str, float]] | None = None
    check_every: int = 0


@dataclass(frozen=True)
class Recipe:
    """A whole training: a model, and the stages it goes through.

    model    builds the untrained network, or names a checkpoint (hub id, folder, "mini")
    seed     of everything random
    weights  the type of the weights at rest; those that learn are float32. "bfloat16" takes
             stages of that precision
    dtype    the type of the weights that are written at the end
    trainer  further arguments of transformers' `TrainingArguments`, such as fsdp_config
    """

    name: str
    model: Callable[[], Parts] | str
    stages: tuple[Stage, ...]
    seed: int = 0
    weights: str = "float32"
    dtype: str = "bfloat16"
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def stage(self, name: str) -> Stage:
        """The stage of a name; an unknown one is a `UserError`."""
        for item in self.stages:
            if item.name == name:
                return item
        raise unknown("stage", name, [item.name for item in self.stages])


def check(recipe: Recipe) -> None:
    """Refuse values out of range, with one line that names the key."""
    if not recipe.stages:
        raise UserError(f"recipe {recipe.name!r} has no stages")
    names = [stage.name for stage in recipe.stages]
    for name in names:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UserError(f"stage name {name!r}: use letters, digits and dashes")
        if names.count(name) > 1:
            raise UserError(f"two stages are named {name!r}: give each its own name")
    _among("dtype", recipe.dtype, PRECISIONS)
    _among("weights", recipe.weights, PRECISIONS)
    if not 0 <= recipe.seed < 4_000_000:  # each stage has a thousand seeds of its own
        raise UserError(f"seed must be from 0 to 3,999,999, not {recipe.seed!r}")
    for stage in recipe.stages:
        _check_stage(stage)
        _check_apart(recipe, stage)
        if recipe.weights == "bfloat16" and stage.precision != "bfloat16":
            raise UserError(f"stages.{stage.name}.precision must be bfloat16 for such weights")


def _check_apart(recipe: Recipe, stage: Stage) -> None:
    """An adapter apart is of use only on a model that others can name."""
    alone = len(recipe.stages) == 1 and isinstance(recipe.model, str) and stage.adapter is not None
    if not stage.merge and not (alone and all(p.startswith("objective.") for p in stage.train)):
        raise UserError(
            f"stages.{stage.name}.merge=False keeps an adapter apart: that takes a recipe of one "
            "stage, on a named checkpoint, in which the adapter alone learns"
        )


def _check_stage(stage: Stage) -> None:
    key = f"stages.{stage.name}."
    for name, low in _LEAST.items():
        _least(key + name, getattr(stage, name), low)
    for name in ("warmup", "floor"):
        if not 0 <= getattr(stage, name) <= 1:
            raise UserError(f"{key}{name} is a share from 0 to 1, not {getattr(stage, name)!r}")
    if len(stage.betas) != 2 or not all(0 <= beta < 1 for beta in stage.betas):
        raise UserError(f"{key}betas are two numbers from 0 up to 1, not {stage.betas!r}")
    if stage.pack is not None:
        _least(key + "pack", stage.pack, 1)
    _among(key + "schedule", stage.schedule, SCHEDULES)
    _among(key + "precision", stage.precision, PRECISIONS)
    if isinstance(stage.train, str):
        raise UserError(f"{key}train must be a tuple of patterns: write ({stage.train!r},)")
    if not stage.train and stage.adapter is None:
        raise UserError(f"stage {stage.name!r} trains nothing: name parameters in its `train`")
    if not stage.rates:
        raise UserError(f'{key}rates is empty: give at least {{"*": 1e-4}}')
    for pattern, rate in stage.rates.items():
        _least(f"{key}rates.{pattern}", rate, 0.0)
    if stage.adapter is not None:
        _least(key + "adapter.rank", stage.adapter.rank, 1)
        if not 0 <= stage.adapter.dropout < 1:
            raise UserError(f"{key}adapter.dropout is a share from 0 up to 1")
    if stage.check_every and stage.check is None:
        raise UserError(f"{key}check_every needs a `check` function in the recipe")


_LEAST: dict[str, float] = {
    "steps": 1,
    "batch": 1,
    "accumulate": 1,
    "weight_decay": 0,
    "clip": 0,
    "save_every": 1,
    "log_every": 1,
    "workers": 0,
    "check_every": 0,
}


def _least(key: str, value: float, low: float) -> None:
    if not value >= low or math.isinf(value):
        raise UserError(f"{key} must be {low:g} or more, not {value!r}")


def _among(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise unknown(f"value of {key}:", value, allowed)


def selected(recipe: Recipe, stages: tuple[str, ...] | None) -> Recipe:
    """The recipe with the named stages only, in the recipe's order."""
    if stages is None:
        return recipe
    wanted = {recipe.stage(name).name for name in stages}
    kept = tuple(stage for stage in recipe.stages if stage.name in wanted)
    return dataclasses.replace(recipe, stages=kept)
