"""Finding named things in pictures: by asking a model, or with a zero-shot detector.

P pictures, k boxes, Q names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.slots import Viewer


@dataclass(frozen=True)
class Found:
    """What was found in one picture, on the CPU.

    boxes       (k, 4) x0 y0 x1 y1 in pixels
    label       (k,) long, which of the names it is
    confidence  (k,) from 0 to 1
    """

    boxes: Tensor
    label: Tensor
    confidence: Tensor


class Finder(Protocol):
    """Finds named things in pictures."""

    @property
    def tiled(self) -> bool:
        """Whether it is given many small frames in one picture, and not each on its own."""
        ...

    def find(self, pictures: Tensor, names: Sequence[str]) -> list[Found]:
        """What is in each of (P, H, W, 3) uint8 pictures, in their pixels."""
        ...


@dataclass(frozen=True)
class AskingFinder:
    """Asks a model of every picture and name whether it is there: one box, the whole picture, as
    sure as the answer is "yes"."""

    viewer: Viewer
    question: Callable[[str], str]  # of a name, answered by yes or no
    tiled: bool = False

    def find(self, pictures: Tensor, names: Sequence[str]) -> list[Found]:
        sure = self.viewer.probability(pictures, [self.question(name) for name in names], "yes")
        whole = torch.tensor([0.0, 0.0, pictures.shape[2], pictures.shape[1]])
        labels = torch.arange(len(names))
        return [Found(whole.expand(len(names), 4), labels, row) for row in sure]


@dataclass(frozen=True)
class DetectorFinder:
    """A zero-shot object detector of transformers with its processor."""

    model: Any
    processor: Any
    threshold: float  # boxes below are not reported
    tiled: bool = True

    @torch.inference_mode()
    def find(self, pictures: Tensor, names: Sequence[str]) -> list[Found]:
        texts = [list(names)] * len(pictures)
        inputs = self.processor(
            images=[picture.numpy() for picture in pictures],
            text=texts,
            truncation=True,  # the text towers are short
            return_tensors="pt",
        ).to(self.model.device, self.model.dtype)
        outputs = self.model(**inputs)
        read = self.processor.post_process_grounded_object_detection
        sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        options = {"threshold": self.threshold, "target_sizes": sizes, "text_labels": texts}
        if "text_threshold" in inspect.signature(read).parameters:  # of the words of a phrase
            options["text_threshold"] = self.threshold
        return [_found(item, names) for item in read(outputs, **options)]


def _found(item: Any, names: Sequence[str]) -> Found:
    """A detector's result; phrases that are none of the names are left out."""
    labels = [_name(text, names) for text in item["text_labels"]]
    keep = [place for place, label in enumerate(labels) if label is not None]
    return Found(
        item["boxes"].float().cpu()[keep],
        torch.tensor([labels[place] for place in keep], dtype=torch.long),
        item["scores"].float().cpu()[keep],
    )


def _name(text: str, names: Sequence[str]) -> int | None:
    """Which name a detector means: some report the words that they matched, not the whole name."""
    for place, name in enumerate(names):
        if text == name:
            return place
    words = set(text.split())
    shared = [len(words & set(name.split())) for name in names]
    return shared.index(max(shared)) if any(shared) else None


@lru_cache(maxsize=1)
def load_detector(model: str, device: str, threshold: float) -> DetectorFinder:
    """A zero-shot object detector of transformers by hub id or folder, kept until another is named.

    safetensors only, no remote code. Raises `UserError` for what is not one or does not load.
    """
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    try:
        loaded, report = AutoModelForZeroShotObjectDetection.from_pretrained(
            model, use_safetensors=True, output_loading_info=True
        )
        processor = AutoProcessor.from_pretrained(model)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"detector {model!r} does not load: {first[:200]}") from error
    if report["missing_keys"]:
        raise UserError(
            f"detector {model!r} lacks {len(report['missing_keys'])} of its tensors, such as "
            f"{min(report['missing_keys'])}: download it again"
        )
    if not hasattr(processor, "post_process_grounded_object_detection"):
        raise UserError(f"detector {model!r} has no processor that finds objects by their names")
    return DetectorFinder(loaded.to(device).eval(), processor, threshold)
