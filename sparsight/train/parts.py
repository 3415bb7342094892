"""The parts of a model in training, and how they are read and written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sparsight.vlm.families import family_for
from sparsight.vlm.families.base import Family
from sparsight.vlm.families.settings import read_settings
from sparsight.vlm.load import find_model, load_family

#: The files beside weights, configuration and tokenizer that make a checkpoint whole.
SETTINGS = (
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)


@dataclass
class Parts:
    """A transformers model, its tokenizer, and the other files of its folder.

    files  file name -> content: text, or what is written as JSON (processor settings, a model
           card). The chat template comes with the tokenizer or as a file of its own.
    """

    model: Any
    tokenizer: Any
    files: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def family(self) -> Family:
        """The model as its family (`sparsight.vlm.families`): views, tower, packing, prompt."""
        with tempfile.TemporaryDirectory() as folder:
            self._write_files(Path(folder))
            settings = read_settings(Path(folder))
        return family_for(self.model.config)(self.model, self.tokenizer, settings)

    @property
    def device(self) -> torch.device:
        """Where the model is; it moves after it is built, so ask when it matters."""
        return next(self.model.parameters()).device

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write a folder that `sparsight.load` and transformers open; converts the weights to
        `dtype` for good."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.to(dtype).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self._write_files(folder)

    def _write_files(self, folder: Path) -> None:
        for name, content in self.files.items():
            text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
            (folder / name).write_text(text)


def load_parts(model: str, dtype: torch.dtype) -> Parts:
    """The parts of a checkpoint: a hub id, a folder or "mini". Errors as in `load_family`."""
    folder = find_model(model)
    family = load_family(model, dtype, "cpu")
    files = {name: (folder / name).read_text() for name in SETTINGS if (folder / name).is_file()}
    return Parts(family.model, family.tokenizer, files)
