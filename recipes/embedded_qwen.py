"""mini-qwen's network and files, and how it is read in training.

The class of transformers is Qwen2.5-VL: views of any size in one packed sequence, two frames to a
temporal patch (a picture is shown twice), 2 x 2 patches merged into a token, and M-RoPE.

Shape suffixes: V views, P pairs of frames, N patches of a pair, C tokens of a pair, L sequence,
D width, B samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from embedded_data import Layout
from embedded_models import (
    CHAT_TEMPLATE,
    LLM,
    PATCH,
    PIXELS,
    ROPE,
    SIDE,
    SPECIAL,
    build_tokenizer,
)
from embedded_objectives import Ask, Look, Media, Reader
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from sparsight.train.parts import Parts
from sparsight.train.recipe import Stage
from sparsight.vlm.families.pixels import patchify

MERGE = 2  # patches along a token
PAIR = 2  # frames of a temporal patch
FPS = 2.0  # of the films in training
IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
TEMPLATE = CHAT_TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>").replace(
    "<video>", "<|vision_start|><|video_pad|><|vision_end|>"
)


def qwen_tokenizer(scenes: int = 4000) -> PreTrainedTokenizerFast:
    special = [mark for mark in SPECIAL if mark not in ("<image>", "<video>")]
    return build_tokenizer(scenes=scenes, special=[*special, *IDS.values()], chat_template=TEMPLATE)


def build_network(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """The untrained network."""
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 5,
            "hidden_size": 160,
            "intermediate_size": 432,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": PAIR,
            "out_hidden_size": LLM["hidden_size"],
            "window_size": SIDE,
            "fullatt_block_indexes": [2, 4],
            "tokens_per_second": 2,
        },
        text_config={
            "rope_parameters": {**ROPE, "mrope_section": [8, 12, 12]},
            "bos_token_id": None,
            "eos_token_id": eos,
            "pad_token_id": pad,
            **LLM,
        },
        tie_word_embeddings=True,
        eos_token_id=eos,
        pad_token_id=pad,
        **{name: tokenizer.convert_tokens_to_ids(mark) for name, mark in IDS.items()},
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=64, eos_token_id=eos, pad_token_id=pad
    )
    return model


def processor_files() -> dict[str, Any]:
    """The files from which transformers builds the processor."""
    pixels = {
        **PIXELS,
        "patch_size": PATCH,
        "temporal_patch_size": PAIR,
        "merge_size": MERGE,
        "processor_class": "Qwen2_5_VLProcessor",
    }
    # Pictures of the sizes shown in training; frames of one view's pixels, whatever their shape.
    picture = {"shortest_edge": SIDE**2, "longest_edge": (2 * SIDE) ** 2}
    frame = {"shortest_edge": SIDE**2, "longest_edge": SIDE**2}
    return {
        "preprocessor_config.json": {
            "image_processor_type": "Qwen2VLImageProcessor",
            "size": picture,
            **pixels,
        },
        "video_preprocessor_config.json": {
            "video_processor_type": "Qwen2VLVideoProcessor",
            "size": frame,
            **pixels,
        },
        "processor_config.json": {"processor_class": "Qwen2_5_VLProcessor"},
    }


def qwen() -> Parts:
    """An untrained model of the Qwen2.5-VL class with its tokenizer and processor files."""
    tokenizer = qwen_tokenizer()
    return Parts(build_network(tokenizer), tokenizer, processor_files())


class QwenReader:
    """`Reader` of Qwen2.5-VL. What is seen of a pair of frames tells of the later one."""

    def see(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        seen, _ = towered(model, pixels.repeat_interleave(PAIR, 0), PAIR)
        return seen, seen.mean(1)

    def read(self, model: Any, pixels: Tensor, layout: Layout, prefix: int) -> Media:
        still = layout.kind != "film" or layout.frames == 1  # shown twice, as a pair of frames
        pictures = 2 if layout.kind == "pair" else 1
        frames = PAIR if still else layout.frames
        if still:
            pixels = pixels.repeat_interleave(PAIR, 0)
        seen, tokens = towered(model, pixels, frames)
        runs = tokens.unflatten(0, (-1, frames // PAIR)).flatten(1, 2)  # (media, L, D)
        marks = torch.tensor(
            [model.config.vision_start_token_id, model.config.vision_end_token_id],
            device=pixels.device,
        )
        embeds = model.get_input_embeddings()(marks).to(runs.dtype)
        start, end = embeds[:, None, None].expand(-1, len(runs), 1, -1)
        runs = torch.cat((start, runs, end), 1)
        side = layout.side // (PATCH * MERGE)
        ticks = torch.arange(frames // PAIR, device=pixels.device) * PAIR / FPS
        ticks = (ticks * model.config.vision_config.tokens_per_second).long()
        return Media(
            seen,
            seen.mean(1),
            runs.unflatten(0, (-1, pictures)).flatten(1, 2),
            views=slice(None) if still else slice(PAIR - 1, None, PAIR),
            frames=slice(1, -1),
            places=places(prefix, pictures, ticks, side),
        )


def towered(model: Any, pixels: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Media of `frames` frames each, one after the other (V, 3, H, W) -> patches (P, N, D), in
    rows if they are one window, and tokens (P, C, D)."""
    rows, columns = (size // PATCH for size in pixels.shape[-2:])
    grid = torch.tensor([[frames // PAIR, rows, columns]]).expand(len(pixels) // frames, -1)
    out = model.model.visual(patchify(pixels, PATCH, PAIR, MERGE), grid_thw=grid.to(pixels.device))
    pairs = len(pixels) // PAIR
    tokens = out.pooler_output.unflatten(0, (pairs, -1))
    # The patches of a token follow one another.
    cells = (pairs, rows // MERGE, columns // MERGE, MERGE, MERGE)
    seen = out.last_hidden_state.unflatten(0, cells).transpose(2, 3).flatten(1, 4)
    return seen, tokens


def places(prefix: int, media: int, ticks: Tensor, side: int) -> Tensor:
    """M-RoPE positions (3, prefix + L) of `media` media between their marks, each of `ticks` (T)
    times `side` x `side` tokens, behind `prefix` tokens of text."""
    device = ticks.device
    along = torch.arange(side, device=device)
    grid = torch.stack(torch.meshgrid(ticks, along, along, indexing="ij")).flatten(1)
    parts = [torch.arange(prefix, device=device).repeat(3, 1)]
    for _ in range(media):
        start = parts[-1][:, -1:].amax(0, keepdim=True).expand(3, 1) + 1
        inside = grid + start + 1
        # Text goes on behind the longer side, not behind the last tick.
        parts += [start, inside, inside[1:].amax().expand(3, 1) + 1]
    return torch.cat(parts, 1)


class QwenLook(Look):
    """`Look` for Qwen2.5-VL."""

    reader: ClassVar[Reader] = QwenReader()


class QwenAsk(Ask):
    """`Ask` for Qwen2.5-VL."""

    reader: ClassVar[Reader] = QwenReader()


#: Parameters that the stages name -> where this class has them.
INSTEAD = {
    "model.vision_tower.*": ("model.visual.patch_embed.*", "model.visual.blocks.*"),
    "model.vision_tower.encoder.*": ("model.visual.blocks.*",),
    "model.multi_modal_projector.*": ("model.visual.merger.*",),
    "model.image_newline": (),
}
OBJECTIVES = {Look: QwenLook, Ask: QwenAsk}


def here(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Stages of the LLaVA-OneVision models, for this class."""
    return tuple(
        replace(
            stage,
            objective=OBJECTIVES[stage.objective],
            train=_names(stage.train),
            muon=_names(stage.muon),
            rates={n: rate for name, rate in stage.rates.items() for n in _names((name,))},
        )
        for stage in stages
    )


def _names(patterns: Sequence[str]) -> tuple[str, ...]:
    """Patterns of parameters by the names of this class."""
    return tuple(name for pattern in patterns for name in INSTEAD.get(pattern, (pattern,)))
