"""SmolVLM against Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from harness import (
    CASES,
    FilmTests,
    Recipe,
    film,
    llama,
    ours,
    picture,
    tokenizer,
    user,
    views_of,
)
from test_qwen2_vl import metadata
from torch import Tensor
from transformers import (
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
    SmolVLMProcessor,
)
from transformers.models.smolvlm import processing_smolvlm

from sparsight.core.tokens import Views
from sparsight.vlm.families.smolvlm import SmolVLM, in_words

SIDE, PATCH, FACTOR = 16, 4, 2
MARKS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}
PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


class SmolRecipe(Recipe):
    family = SmolVLM
    chat_template = processing_smolvlm.DEFAULT_CHAT_TEMPLATE
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"longest_edge": 3 * SIDE},
        "max_image_size": {"longest_edge": SIDE},
        "do_image_splitting": True,
        "resample": 1,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    film_settings: ClassVar[dict[str, Any]] = picture_settings | {"size": {"longest_edge": 24}}
    processor_settings: ClassVar[dict[str, Any]] = {"image_seq_len": (SIDE // PATCH // FACTOR) ** 2}
    video_processor = "SmolVLMVideoProcessor"
    beyond: ClassVar[dict[str, str]] = dict.fromkeys(
        ("picture_and_film", "film_and_picture"),
        "the processor loses the pictures: both kinds' pixels have the same name",
    )

    def tokenizer(self) -> Any:
        return tokenizer("<|im_start|>", "<video>", *PLACES, **MARKS)

    def model(self, tokens: Any) -> Any:
        config = SmolVLMConfig(
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "image_size": SIDE,
                "patch_size": PATCH,
            },
            text_config=llama(tokens),
            scale_factor=FACTOR,
            image_token_id=tokens.convert_tokens_to_ids("<image>"),
        )
        return SmolVLMForConditionalGeneration(config)

    def image_processor(self) -> Any:
        return SmolVLMImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        films.num_frames = films.fps = None
        return SmolVLMProcessor(self.image_processor(), tokens, films, **self.processor_settings)

    def processed(self, films: Sequence[Views]) -> dict[str, Any]:
        pixels = torch.stack([item.inputs["pixel_values"] for item in films])
        return {
            "pixel_values": pixels,
            "video_metadata": [metadata(len(item)) for item in films],
        }

    def processed_by_torchvision(self, frames: Tensor) -> Mapping[str, Any]:
        made = super().processed_by_torchvision(frames)
        return {"pixel_values_videos": made["pixel_values"]}


class TestSmolVLM(FilmTests):
    recipe = SmolRecipe()

    @pytest.fixture(autouse=True)
    def words(self, monkeypatch):
        """The processor wants num2words, which may be absent."""
        if processing_smolvlm.num2words is None:
            monkeypatch.setattr(processing_smolvlm, "num2words", in_words)

    @torch.no_grad()
    def test_a_picture_and_a_film_equal_the_model_given_both(self, made):
        # The processor loses the pictures (both kinds' pixels have one name), the model does not.
        batch, ids = ours(made.family, CASES["picture_and_film"])
        views = views_of(made.family, CASES["picture_and_film"].media[0])
        pixels = torch.cat([item.inputs["pixel_values"] for item in views])[None]
        expected = made.model(input_ids=torch.tensor(ids), pixel_values=pixels).logits
        logits = made.model(inputs_embeds=batch.embeds, position_ids=batch.positions).logits
        assert torch.equal(logits, expected)

    def test_a_film_gets_a_template_that_knows_films(self, made):
        old = replace(made.family.settings, chat_template="{{ messages[0]['role'] }}")
        family = SmolVLM(made.model, made.family.tokenizer, old)
        assert family.prompt_text([user("<picture>")]) == "user"
        assert "<video>" in family.prompt_text([user("<film>")])

    def test_tiles_lie_row_by_row_before_the_whole(self, made):
        views = made.family.picture_views(picture(20, 30), alone=True)
        assert views.roles == (*["tile"] * 6, "thumbnail")
        assert views.boxes[4].tolist() == torch.tensor([1 / 3, 1 / 2, 2 / 3, 1]).tolist()
        assert made.family.expand("<image>", [views]).count("\n") == 3
        settings = replace(
            made.family.settings,
            picture=made.family.settings.picture | {"do_image_splitting": False},
        )
        family = SmolVLM(made.model, made.family.tokenizer, settings)
        assert family.picture_views(picture(20, 30), alone=True).roles == ("picture",)

    def test_times_are_written_as_minutes_and_seconds(self, made):
        views = made.family.film_views(film(20, 24, frames=2), [0.0, 75.99], 80.7)
        text = made.family.expand("<video>", [views])
        assert "series of two frames from a 0:01:20 [H:MM:SS] video" in text
        assert "Frame from 00:00:" in text
        assert "Frame from 01:15:" in text


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (64, "sixty-four"),
        (100, "one hundred"),
        (123, "one hundred and twenty-three"),
        (1000, "one thousand"),
        (1007, "one thousand and seven"),
        (2450, "two thousand, four hundred and fifty"),
        (12300, "twelve thousand, three hundred"),
    ],
)
def test_numbers_in_words(number, words):
    assert in_words(number) == words
