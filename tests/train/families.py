"""A small random checkpoint of every family, and what plain Hugging Face makes of a lesson."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor
from transformers.models.smolvlm import processing_smolvlm

from sparsight.core.clip import Clip
from sparsight.train.conversations import Dialogue
from sparsight.train.parts import SETTINGS, Parts
from sparsight.vlm.families import family_of, model_types
from sparsight.vlm.families.smolvlm import in_words
from sparsight.vlm.messages import Conversation, Turn
from tests.systems.test_sweep import RECIPES
from tests.vlm.tiny import checkpoint, film, picture

harness = importlib.import_module("harness")  # tests.vlm.tiny has put its folder on the path
Checkpoint = harness.Checkpoint

NAMES = sorted(family_of(kind).name for kind in model_types())
PIXELS = {"picture": picture(40, 56, 1), "film": film(32, 48, 1, frames=4)}
CLIPS = {
    "picture": Clip.from_picture(PIXELS["picture"]),
    "film": Clip.from_frames(PIXELS["film"], fps=2.0, origin="film"),
}
QUESTION, ANSWER = "what is in it ?", "a red cat ."


def make(name: str, folder: Path) -> Checkpoint:
    """A random checkpoint of a family in a folder, with Hugging Face's processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing_smolvlm, "num2words", in_words)
        return checkpoint(RECIPES[name], folder)


def parts_of(made: Checkpoint) -> Parts:
    files = {
        name: (made.folder / name).read_text()
        for name in SETTINGS
        if (made.folder / name).is_file()
    }
    return Parts(made.model, made.family.tokenizer, files)


def dialogue(*turns: str, media: Sequence[Any] = (), index: int = 0) -> Dialogue:
    """Questions and answers in turn; the media stand before the first question."""
    told = [Turn(("user", "assistant")[place % 2], (text,)) for place, text in enumerate(turns)]
    told[0] = Turn("user", (*range(len(media)), turns[0]))
    return Dialogue(Conversation(tuple(told), tuple(media)), index=index)


def processed(made: Checkpoint, prompt: str, kind: str) -> dict[str, Any]:
    """What the Hugging Face processor makes of a prompt with one medium."""
    recipe, pixels = made.recipe, PIXELS[kind]
    if kind == "picture":
        views = made.family.picture_views(pixels, True)
    else:
        views = made.family.film_views(pixels, harness.times(pixels), 0.5 * len(pixels))
    pictures, films = recipe.reference_media([pixels])
    made.films.result = recipe.processed([views]) if films else {}
    media: dict[str, Any] = {}
    if pictures:
        media["images"] = [[Image.fromarray(item.numpy()) for item in pictures]]
    if films:
        media["videos"] = [item.numpy() for item in films]
    text = recipe.reference_text(prompt, [views])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing_smolvlm, "num2words", in_words)
        return dict(made.processor(text=[text], **media, return_tensors="pt"))


@cache
def template_end(name: str) -> tuple[str, str]:
    """What a family's template writes between prompt and answer, and the end of an answer."""
    if name in ("llava", "llava-next", "llava-next-video", "video-llava"):
        return " ", "</s>"
    if name == "smolvlm":
        return " ", "<end_of_utterance>"
    return "", "<|im_end|>"


def plain_loss(made: Checkpoint, kind: str) -> tuple[list[int], list[int], Tensor]:
    """Ids, labels and loss of the Hugging Face model and processor, on QUESTION and ANSWER."""
    part = {"type": "image" if kind == "picture" else "video"}
    asked = {"role": "user", "content": [part, {"type": "text", "text": QUESTION}]}
    prompt = made.family.prompt_text([asked])
    before, end = template_end(made.family.name)
    asking = processed(made, prompt, kind)["input_ids"].shape[1]
    inputs = processed(made, prompt + before + ANSWER + end, kind)
    labels = inputs["input_ids"].clone()
    labels[:, :asking] = -100
    loss = made.model(**inputs, labels=labels).loss
    return inputs["input_ids"][0].tolist(), labels[0].tolist(), loss
