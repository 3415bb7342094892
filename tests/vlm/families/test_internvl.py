"""InternVL against Hugging Face."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from harness import FilmTests, Recipe, film, picture, qwen2, tokenizer
from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
)

from sparsight.core.slots import Need
from sparsight.vlm.families.internvl import InternVL

SIDE, PATCH = 16, 4
MARKS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)


class InternRecipe(Recipe):
    family = InternVL
    chat_template = TEMPLATE
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"height": SIDE, "width": SIDE},
        "min_patches": 1,
        "max_patches": 6,
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    film_settings = picture_settings
    processor_settings: ClassVar[dict[str, Any]] = {"image_seq_length": (SIDE // PATCH // 2) ** 2}
    video_processor = "InternVLVideoProcessor"

    def tokenizer(self) -> Any:
        return tokenizer("<|im_start|>", "<|im_end|>", **MARKS)

    def model(self, tokens: Any) -> Any:
        config = InternVLConfig(
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "image_size": [SIDE, SIDE],
                "patch_size": [PATCH, PATCH],
                "use_qk_norm": True,
                "norm_type": "rms_norm",
            },
            text_config=qwen2(tokens),
            image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
            image_seq_length=(SIDE // PATCH // 2) ** 2,
        )
        model = InternVLForConditionalGeneration(config)
        torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embeddings)
        torch.nn.init.normal_(model.model.vision_tower.embeddings.cls_token)
        return model

    def image_processor(self) -> Any:
        return GotOcr2ImageProcessorPil(**self.picture_settings, crop_to_patches=True)

    def processor(self, tokens: Any, films: Any) -> Any:
        return InternVLProcessor(self.image_processor(), tokens, films, **self.processor_settings)


class TestInternVL(FilmTests):
    recipe = InternRecipe()

    def test_tiles_lie_row_by_row_under_the_thumbnail(self, made):
        views = made.family.picture_views(picture(33, 40), alone=True)
        assert views.roles == (*["tile"] * (len(views) - 1), "thumbnail")
        wide = made.family.picture_views(picture(20, 60), alone=True)
        assert wide.roles == ("tile", "tile", "tile", "thumbnail")
        assert wide.boxes[:, 0].tolist() == torch.tensor([0, 1 / 3, 2 / 3, 0]).tolist()
        assert made.family.picture_views(picture(20, 20), alone=True).roles == ("picture",)

    def test_pixel_shuffle_joins_the_patches_under_a_token(self, made):
        family = made.family
        [features] = family.encode([family.picture_views(picture(20, 40), alone=True)])
        place = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1)
        crafted = torch.zeros_like(features.features)
        crafted[..., :2] = place
        shuffled = family.inner.pixel_shuffle(crafted, 0.5).unflatten(-1, (4, 16))[..., :2].mean(-2)
        assert shuffled[0, 1, 0].tolist() == [2.5, 0.5]
        joined = family.project([features])[0]
        assert joined.box[0, 1, 0].tolist() == [
            *features.box[0, 2, 0, :2].tolist(),
            *features.box[0, 3, 1, 2:].tolist(),
        ]
        assert (joined.weight == 1).all()

    def test_signals_follow_the_tokens(self, made):
        family = made.family
        needs = [Need("cls_attention"), Need("keys")]
        assert {need.name for need in needs} <= family.supplies()
        [features] = family.encode([family.picture_views(picture(20, 20), alone=True)], needs)
        raw = features.signals["cls_attention"]
        tokens = family.pack(family.project([features])[0])
        assert tokens.signals["cls_attention"].shape == (4, 2)
        assert tokens.signals["cls_attention"][1].allclose(raw[0, :2, 2:].mean((0, 1)))
        assert tokens.signals["keys"].shape == (4, 16)

    def test_further_views_of_a_film_carry_no_number(self, made):
        views = made.family.film_views(film(20, 24, frames=2), [0.0, 1.0], 2.0)
        more = made.family.with_thumbnails(views, torch.zeros(1, 3, SIDE, SIDE))
        text = made.family.expand("<video>", [more])
        lines = text.replace("<IMG_CONTEXT>", "").split("\n")
        assert lines == ["Frame1: <img></img>", "Frame2: <img></img>", "<img></img>"]
        assert text.count("<IMG_CONTEXT>") == 3 * 4
