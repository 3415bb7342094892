"""Adapters of low rank on a model's linear layers, by peft."""

from __future__ import annotations

import importlib.util
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn

from sparsight.core.errors import UserError
from sparsight.train.parameters import unmatched
from sparsight.train.recipe import Lora


class Adapter:
    """A `Lora` on a model, put on in place: the model stays the same object."""

    def __init__(self, model: Any, lora: Lora, stage: str) -> None:
        """Raises `UserError` without peft and for a pattern that no linear layer matches."""
        if importlib.util.find_spec("peft") is None:
            raise UserError("adapters need peft: install sparsight[train]")
        from peft import LoraConfig, LoraModel

        linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
        for pattern in lora.layers:
            if not any(fnmatchcase(name, pattern) for name in linear):
                raise unmatched(f"adapter of stage {stage!r}", pattern, linear)
        chosen = [n for n in linear if any(fnmatchcase(n, p) for p in lora.layers)]
        self.config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]
            lora_dropout=lora.dropout,
            target_modules="|".join(re.escape(name) for name in chosen),
        )
        self.layers = chosen
        self.tuner = LoraModel(model, {"default": self.config}, "default")

    @property
    def weights(self) -> set[str]:
        """The canonical names of the parameters that merging changes."""
        return {f"{name}.weight" for name in self.layers}

    def merge(self) -> None:
        """Fold the adapter into the weights and take it off."""
        self.tuner.merge_and_unload()

    def drop(self) -> None:
        """Take the adapter off and leave the weights as they were."""
        self.tuner.unload()

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter apart, as peft and transformers read it; `base` names its model."""
        import safetensors.torch
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.tuner, adapter_name="default")
        state = {f"base_model.{name}": value.contiguous().cpu() for name, value in state.items()}
        safetensors.torch.save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
        self.config.base_model_name_or_path = base
        self.config.save_pretrained(str(folder))
