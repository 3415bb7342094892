"""Checkpoints of random weights: what they cost is real, what they say is not.

LLaVA-OneVision of 196 tokens a frame, LLaVA-1.5 of 576 a picture and LLaVA-NeXT of 576 a tile.
Nothing is downloaded: configuration, weights and tokenizer are made here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from sparsight.core.clip import Clip
from sparsight.core.plan import Plan
from sparsight.systems import load as load_systems
from sparsight.vlm.families import family_for
from sparsight.vlm.families.settings import Settings
from sparsight.vlm.pipeline import VLM


@dataclass(frozen=True)
class Shape:
    """Sizes of the language model and of the tower.

    A CLIP tower has a CLS token and views of 392 px, a SigLIP tower (that of the published
    checkpoints) has none and views of 384 px; both give 14 x 14 = 196 tokens a frame.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    tower: str
    tower_width: int
    tower_layers: int
    tower_heads: int
    tower_mlp: int

    @property
    def side(self) -> int:
        """Pixels of a view."""
        return 392 if self.tower == "clip" else 384


SHAPES = {
    # For tests of the scripts themselves.
    "tiny": Shape(64, 4, 4, 2, 128, 512, "clip", 32, 2, 2, 64),
    # Two cores: narrow with eight layers, so that what Python adds to a layer shows.
    "narrow": Shape(384, 8, 6, 2, 1024, 4096, "clip", 192, 4, 3, 768),
    # Two cores: the language model of the 0.5B checkpoint behind a small tower, so that what a
    # system costs stands against a prefill of real depth and width.
    "real": Shape(896, 24, 14, 2, 4864, 4096, "clip", 192, 3, 3, 768),
    # Two cores: proportions of a Qwen2 decoder, and a tower that costs about a quarter as much
    # as reading 32 frames does, as in the 7B model.
    "small": Shape(512, 4, 8, 2, 2816, 4096, "clip", 192, 3, 3, 768),
    # The published checkpoints.
    "0.5b": Shape(896, 24, 14, 2, 4864, 151936, "siglip", 1152, 26, 16, 4304),
    "7b": Shape(3584, 28, 28, 4, 18944, 152064, "siglip", 1152, 26, 16, 4304),
}
PATCH = 14
SQUARE = 336  # pixels of a view of LLaVA-1.5 and LLaVA-NeXT


def random_onevision(shape: Shape, dtype: torch.dtype, device: str) -> VLM:
    """A LLaVA-OneVision of random weights, the same for the same shape, ready to be asked."""
    side, clip = shape.side, shape.tower == "clip"
    config = LlavaOnevisionConfig(
        vision_config=_tower(shape, side),
        text_config=_llm(shape),
        image_grid_pinpoints=_pinpoints(side),
        vision_aspect_ratio="anyres_max_9",
        vision_feature_select_strategy="default" if clip else "full",
        **_placeholders(),
    )
    size = {"size": {"height": side, "width": side}}
    settings = Settings(
        picture={**_NORMAL, **size, "image_grid_pinpoints": config.image_grid_pinpoints},
        film={**_NORMAL, **size},
        processor={"num_image_tokens": (side // PATCH) ** 2, "vision_aspect_ratio": "anyres_max_9"},
        chat_template=_CHAT,
    )
    return _ready(config, settings, dtype, device)


def random_llava(shape: Shape, tiles: bool, dtype: torch.dtype, device: str) -> VLM:
    """A LLaVA-1.5, or with `tiles` a LLaVA-NeXT, of random weights: views of 336 px, 24 x 24 = 576
    tokens each. The tower is CLIP's; `shape` gives the sizes."""
    kind = LlavaNextConfig if tiles else LlavaConfig
    more = {"image_grid_pinpoints": _pinpoints(SQUARE)} if tiles else {}
    config = kind(
        vision_config=_tower(replace(shape, tower="clip"), SQUARE),
        text_config=_llm(shape),
        **_placeholders(),
        **more,
    )
    size = {"size": {"shortest_edge": SQUARE}, "crop_size": {"height": SQUARE, "width": SQUARE}}
    settings = Settings(
        picture={**_NORMAL, **size, **more}, film={}, processor={}, chat_template=_CHAT
    )
    return _ready(config, settings, dtype, device)


def _tower(shape: Shape, side: int) -> PretrainedConfig:
    clip = shape.tower == "clip"
    tower = (CLIPVisionConfig if clip else SiglipVisionConfig)(
        hidden_size=shape.tower_width,
        intermediate_size=shape.tower_mlp,
        num_hidden_layers=shape.tower_layers,
        num_attention_heads=shape.tower_heads,
        image_size=side,
        patch_size=PATCH,
    )
    if not clip:
        tower.vision_use_head = False
    return tower


def _llm(shape: Shape) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=32768,
    )


def _pinpoints(side: int) -> list[list[int]]:
    return [[side * rows, side * columns] for rows in (1, 2) for columns in (1, 2)]


def _placeholders() -> dict[str, int]:
    image, video = _tokenizer().convert_tokens_to_ids(["<image>", "<video>"])
    return {"image_token_index": image, "video_token_index": video}


def _ready(config: PretrainedConfig, settings: Settings, dtype: torch.dtype, device: str) -> VLM:
    load_systems()
    tokens = _tokenizer()
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()
    model.generation_config.eos_token_id = None  # every answer has its full length
    model.generation_config.pad_token_id = tokens.pad_token_id
    return VLM(family_for(config)(model, tokens, settings), Plan("random weights"))


def film(frames: int, side: int) -> Clip:
    """Random square frames in memory, one a second."""
    return Clip.from_frames(_noise(frames, side, side), fps=1.0, origin=f"{frames} frames")


def picture(height: int, width: int) -> Clip:
    """A random picture in memory."""
    return Clip.from_picture(_noise(1, height, width)[0], origin=f"{width} x {height} picture")


def _noise(count: int, height: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=random)


_NORMAL = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ '\n' + part['text'] }}"
    "{% else %}{{ '<' + part['type'] + '>' }}{% endif %}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, beside the special ones."""
    special = ["<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    words = [*special, *map(chr, range(256))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, padding_side="left", pad_token="<pad>", unk_token="<unk>"
    )
    made.add_special_tokens({"additional_special_tokens": special})
    return made
