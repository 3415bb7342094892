"""What goes wrong in a training, and what is left and said then."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from sparsight.core.errors import UserError
from sparsight.train.checkpoints import last
from sparsight.train.conversations import Conversations
from sparsight.train.recipe import Lora, check
from sparsight.train.run import Outcome, run
from sparsight.train.trainer import load_learned
from tests.train.tiny import CountedLetters, Letters, Spell, recipe, stage


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Outcome]:
    """`train(recipe, ...)` runs on the CPU into tmp_path / "out"."""
    return partial(run, out=tmp_path / "out", device="cpu")


def losses(out: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


class At(TrainerCallback):
    """Does something when a step begins."""

    def __init__(self, step: int, action: Callable[[], Any]) -> None:
        self.step = step
        self.action = action

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            self.action()


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(
    value: float, tmp_path: Path, train: Callable[..., Outcome]
):
    class Breaks(Spell):
        steps = 0

        def forward(self, batch: dict[str, Any]) -> Any:
            found, metrics = super().forward(batch)
            self.steps += 1
            return {**found, "next": found["next"] * (value if self.steps == 4 else 1.0)}, metrics

    with pytest.raises(UserError) as stopped:
        train(recipe(stage(objective=Breaks)))
    words = str(stopped.value)
    assert "is not a finite number after step 3 of stage 'spell'" in words
    assert "spell-00000002" in words
    good = last(tmp_path / "out/checkpoints", ["spell"])
    assert good is not None
    assert good.step == 2
    assert list(losses(tmp_path / "out")) == [1, 2, 3]


def test_bad_weights_never_replace_a_good_checkpoint(tmp_path: Path, train: Callable[..., Outcome]):
    class Poisons(Spell):
        """The loss stays finite while the gradient of one step does not."""

        steps = 0

        def forward(self, batch: dict[str, Any]) -> Any:
            self.steps += 1
            if self.steps == 4:
                self.early.weight.register_hook(lambda gradient: gradient * float("nan"))
            return super().forward(batch)

    with pytest.raises(UserError, match=r"a weight is not a finite number after step 4"):
        train(recipe(stage(objective=Poisons, clip=0.0)))
    good = last(tmp_path / "out/checkpoints", ["spell"])
    assert good is not None
    assert good.step == 2


# ---- the disk ----------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path: Path, train: Callable[..., Outcome]):
    one = recipe(stage(steps=4))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = At(4, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limits[1])))
    try:
        with pytest.raises(OSError, match=r"no space left to write the checkpoint of step 4"):
            train(one, callbacks=lambda _: [fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = tmp_path / "out/checkpoints"
    assert [path.name for path in folder.iterdir()] == ["spell-00000002"]
    good = last(folder, ["spell"])
    assert good is not None
    assert load_learned(_learner(), good.folder)
    assert train(one, resume=True).model is not None


def _learner() -> torch.nn.Module:
    from sparsight.train.objective import Learner
    from tests.train.tiny import build

    return Learner(Spell(build()))


def test_a_full_disk_leaves_no_half_model(tmp_path: Path, train: Callable[..., Outcome]):
    one = recipe(stage(steps=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    saved = tmp_path / "out/checkpoints/spell-00000001"

    class Fill(TrainerCallback):
        def on_train_end(self, *_: Any, **__: Any) -> None:
            assert saved.is_dir()
            resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, limits[1]))

    try:
        with pytest.raises(OSError, match=r"no space left to write the model"):
            train(one, callbacks=lambda _: [Fill()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "out").glob("*model*"))
    assert train(one, resume=True).model is not None


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")],
)  # fmt: skip
def test_out_of_memory_gives_advice(error: Exception, train: Callable[..., Outcome]):
    class Big(Spell):
        def forward(self, batch: dict[str, Any]) -> Any:
            raise error

    with pytest.raises(UserError, match=r"batch=2 --set stages\.spell\.accumulate=2"):
        train(recipe(stage(objective=Big)))


def test_out_of_memory_with_one_sample_says_what_else_helps(train: Callable[..., Outcome]):
    class Big(Spell):
        def forward(self, batch: dict[str, Any]) -> Any:
            raise MemoryError

    with pytest.raises(UserError, match="one sample at a time: use shorter samples"):
        train(recipe(stage(objective=Big, batch=1)))


# ---- data --------------------------------------------------------------------------------------


class Broken(Letters):
    """Some items cannot be read."""

    def __init__(self, *broken: int) -> None:
        self.broken = broken

    def __getitem__(self, index: int) -> Tensor:
        if index in self.broken:
            raise UserError(f"film {index}.mp4 ends early")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_is_named_counted_and_replaced(
    workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    class Replaced(Letters):
        def __getitem__(self, index: int) -> Tensor:
            return super().__getitem__({5: 6, 9: 11, 10: 11}.get(index, index))

    broken = stage(data=partial(Broken, 5, 9, 10), workers=workers, steps=4)
    with caplog.at_level(logging.WARNING, "sparsight.train"):
        run(recipe(broken), tmp_path / "broken", device="cpu")
    run(recipe(stage(data=Replaced, steps=4)), tmp_path / "replaced", device="cpu")
    assert losses(tmp_path / "broken") == losses(tmp_path / "replaced")
    words = [f"stage spell: sample {n} is skipped: film {n}.mp4 ends early" for n in (5, 9, 10, 10)]
    assert caplog.messages == words
    lines = [json.loads(line) for line in (tmp_path / "broken/log.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines if "loss" in line] == [0, 1, 4, 4]
    assert [line["skipped_sample"] for line in lines if "reason" in line] == [5, 9, 10, 10]


def test_a_data_set_of_broken_samples_ends_the_run(train: Callable[..., Outcome]):
    with pytest.raises(UserError, match=r"20 samples in a row .* number 25: film 25\.mp4 ends"):
        train(recipe(stage(data=partial(Broken, *range(6, 40)))))


def test_a_bug_in_the_data_set_is_no_broken_sample(train: Callable[..., Outcome]):
    class Buggy(Letters):
        def __getitem__(self, index: int) -> Tensor:
            return super().__getitem__(index).no_such_method()

    with pytest.raises(AttributeError):
        train(recipe(stage(data=Buggy)))


def test_missing_data_of_a_late_stage_is_found_first(train: Callable[..., Outcome]):
    steps: list[Any] = []
    late = stage("late", data=partial(Conversations, "gone.json"))
    with pytest.raises(UserError, match=r"gone\.json cannot be read: No such file"):
        train(recipe(stage("early"), late), callbacks=steps.append)
    with pytest.raises(UserError, match="the data set is empty"):
        train(
            recipe(stage("early"), stage("late", data=partial(CountedLetters, 0))),
            callbacks=steps.append,
        )
    assert not steps
    assert train(recipe(stage(steps=1))).model is not None  # the folder is still free


# ---- the recipe --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": ("model.layer.*",)}, r"`train` pattern .* matches 'model\.layer\.\*'; did you"),
        ({"train": ()}, "stage 'spell' trains nothing"),
        ({"train": "model.*"}, r"must be a tuple of patterns: write \('model\.\*',\)"),
        ({"rates": {"objectiv.*": 1.0, "*": 1.0}}, r"`rates` pattern .* 'objectiv\.\*'; did you"),
        ({"rates": {"objective.*": 1e-3}}, r"no learning rate for model\.embed_tokens\.weight"),
        ({"muon": ("model.layer.*",)}, r"`muon` pattern .* 'model\.layer\.\*'; did you"),
        ({"muon": ("*norm.weight",)}, r"`muon` pattern .*'\*norm\.weight'"),  # vectors
        (
            {"adapter": Lora(("*.query",)), "train": ()},
            r"adapter .* matches '\*\.query'; names look like",
        ),
        ({"pack": 64}, r"stages\.spell\.pack: its objective does not pack"),
        ({"group_by_length": True}, "needs a data set with a method length"),
        ({"steps": 0}, r"stages\.spell\.steps must be 1 or more, not 0"),
        ({"warmup": 100}, r"stages\.spell\.warmup is a share from 0 to 1"),
        ({"schedule": "cosin"}, r"did you mean 'cosine'"),
        ({"precision": "float16"}, r"stages\.spell\.precision"),
        ({"rates": {"*": -1.0}}, r"stages\.spell\.rates\.\* must be 0 or more"),
        ({"betas": (0.9, 1.0)}, r"stages\.spell\.betas"),
        ({"merge": False}, r"merge=False keeps an adapter apart"),
        ({"check_every": 5}, r"check_every needs a `check` function"),
    ],
)
def test_a_mistake_in_a_stage_is_named_before_any_step(
    options: dict[str, Any], words: str, train: Callable[..., Outcome]
):
    steps: list[Any] = []
    with pytest.raises(UserError, match=words):
        train(recipe(stage("first"), stage(**options)), callbacks=steps.append)
    assert not steps


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stages": ()}, "has no stages"),
        ({"stages": (stage("a"), stage("a"))}, "two stages are named 'a'"),
        ({"stages": (stage("a/b"),)}, "stage name 'a/b'"),
        ({"dtype": "float64"}, "value of dtype"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(options: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        check(dataclasses.replace(recipe(), **options))


# ---- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_ends_the_step_and_saves(
    number: int, raised: type[BaseException], tmp_path: Path, train: Callable[..., Outcome]
):
    before = signal.getsignal(number)
    call = At(3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(raised):
        train(recipe(), callbacks=lambda _: [call])
    assert signal.getsignal(number) is before
    good = last(tmp_path / "out/checkpoints", ["spell"])
    assert good is not None
    assert good.step == 3
    assert train(recipe(), resume=True).model is not None
    run(recipe(), tmp_path / "whole", device="cpu")
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, train: Callable[..., Outcome]):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(recipe(), callbacks=lambda _: [At(3, twice)])
    good = last(tmp_path / "out/checkpoints", ["spell"])
    assert good is not None
    assert good.step == 2
