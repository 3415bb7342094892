"""The tiny recipe in several processes, started by torchrun:

    torchrun --nproc-per-node 2 -m tests.train.distributed FOLDER

accelerate has FSDP on devices only; here it is made to believe that a CPU is one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from sparsight.train.recipe import Recipe
from sparsight.train.run import run
from tests.train.tiny import Calm, calm_parts, stage

FSDP = {
    "fsdp": True,
    "fsdp_config": {
        "version": 2,
        "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"],
        "state_dict_type": "FULL_STATE_DICT",
    },
}


def recipe(batch: int, **trainer: Any) -> Recipe:
    early = ("model.layers.0.*",)
    stages = (
        stage("early", objective=Calm, train=early, batch=batch, steps=3),
        stage("all", objective=Calm, batch=batch, steps=3, save_every=10),
    )
    return Recipe("calm", calm_parts, stages, trainer=trainer, dtype="float32")


def pretend_devices() -> None:
    real = AcceleratorState.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        if not AcceleratorState._shared_state:
            PartialState(True)
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        real(self, *arguments, **options)

    AcceleratorState.__init__ = init


def stopped_and_resumed(made: Recipe, out: Path) -> None:
    """Stop after the first step and go on, so that checkpoints are read, too."""
    run(made, out, device="cpu", minutes=0)
    run(made, out, device="cpu", resume=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    stopped_and_resumed(recipe(2), folder / "ddp")
    pretend_devices()
    stopped_and_resumed(recipe(2, **FSDP), folder / "fsdp")
