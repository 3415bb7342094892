"""What every family of checkpoints is put through, against plain Hugging Face.

A family's test file writes a `Recipe` (a random model, its tokenizer, its processor) and a class
`TestX(FamilyTests)` with `recipe = X()`; the cases that the family supports follow.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    BatchFeature,
    CLIPVisionConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.processing_utils import ProcessorMixin

from sparsight.core.plan import Plan
from sparsight.core.slots import Need
from sparsight.core.tokens import Views, VisualTokens
from sparsight.llm.deepstack import deepstack
from sparsight.media import load as load_media
from sparsight.vlm.families import family_for
from sparsight.vlm.families.base import FILM, MIXED, PICTURE, PICTURES, Family
from sparsight.vlm.families.settings import read_settings
from sparsight.vlm.pipeline import VLM
from sparsight.vlm.prompt import Batch, Medium, pad, splice

TIMES = (0.0, 0.5, 1.0, 1.5)
NEW_TOKENS = 4
#: What a family supplies that differs from token to token is a signal; this does not.
NO_ROWS = {"film", "square_views", "tower_blocks", "cls_feature", "question_attention"}

# ---- media -------------------------------------------------------------------------------------


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random picture (H, W, 3) uint8 with some grain on it."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    grain = torch.rand(3, height, width, generator=random) * 0.2
    return ((smooth + grain).clamp(0, 1) * 255).byte().permute(1, 2, 0).contiguous()


def film(height: int, width: int, seed: int = 0, frames: int = len(TIMES)) -> Tensor:
    """Random frames (T, H, W, 3) uint8."""
    return torch.stack([picture(height, width, 100 * seed + place) for place in range(frames)])


def times(frames: Tensor) -> list[float]:
    return [place * 0.5 for place in range(len(frames))]


# ---- conversations -----------------------------------------------------------------------------


def user(*parts: str) -> dict[str, Any]:
    """A user's message; "<picture>" and "<film>" stand for media, the rest is text."""
    kinds = {"<picture>": {"type": "image"}, "<film>": {"type": "video"}}
    return {
        "role": "user",
        "content": [kinds.get(part) or {"type": "text", "text": part} for part in parts],
    }


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


@dataclass(frozen=True)
class Case:
    """Prompts side by side (one, but for a padded batch), and what a family must support."""

    needs: frozenset[str]
    rows: tuple[tuple[dict[str, Any], ...], ...]
    media: tuple[tuple[Tensor, ...], ...]  # of each row, in the order of the prompt


def case(needs: str, messages: Sequence[dict[str, Any]], *media: Tensor) -> Case:
    return Case(frozenset(needs.split()), (tuple(messages),), (media,))


QUESTION = "what is in it ?"
WIDE, TALL, SQUARE = picture(40, 90, 1), picture(70, 31, 2), picture(33, 33, 3)
CLIP, CLIP_2 = film(48, 64, 1), film(48, 64, 2)

CASES = {
    "picture": case(PICTURE, [user("<picture>", QUESTION)], WIDE),
    "pictures": case(
        PICTURES, [user("<picture>", "<picture>", "<picture>", QUESTION)], WIDE, TALL, SQUARE
    ),
    "film": case(FILM, [user("<film>", QUESTION)], CLIP),
    "films": case(FILM, [user("<film>", "<film>", QUESTION)], CLIP, CLIP_2),
    "picture_and_film": case(MIXED, [user("<picture>", "<film>", QUESTION)], TALL, CLIP),
    "film_and_picture": case(MIXED, [user("<film>", "<picture>", QUESTION)], CLIP, WIDE),
    "two_turns": case(
        PICTURE,
        [user("<picture>", QUESTION), assistant("a red cat ."), user("where is the cat ?")],
        TALL,
    ),
    "picture_each_turn": case(
        PICTURES,
        [user("<picture>", QUESTION), assistant("a cat ."), user("<picture>", "and here ?")],
        WIDE,
        SQUARE,
    ),
    "padded_batch": Case(
        frozenset({PICTURE}),
        (
            (user("<picture>", "what is the colour of the cat in it ? one word ."),),
            (user("<picture>", QUESTION),),
            (user("where is the cat ?"),),
        ),
        ((SQUARE,), (TALL,), ()),
    ),
}

SIZES = [(33, 33), (40, 90), (90, 40), (20, 151), (151, 20), (24, 24), (1, 7), (17, 18)]

FILM_SIZES = [(48, 64), (64, 48), (24, 24), (19, 77), (120, 130)]

# ---- a checkpoint of one family ----------------------------------------------------------------

WORDS = (
    "what is in it ? where the cat colour of one word . a red blue and here system user assistant "
    "USER : ASSISTANT Frame second s seconds video image describe how many"
)


def tokenizer(*special: str, **named: str) -> PreTrainedTokenizerFast:
    """A small tokenizer that knows a few words and every character below 256.

    Args:
        special: the family's special tokens.
        named: special tokens by name (`eos_token`, `pad_token`, `image_token`, ...).
    """
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"} | named
    every = list(dict.fromkeys([*named.values(), *special]))
    words = [*every, *(chr(code) for code in range(256)), *WORDS.split()]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys(words))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=named["unk_token"]))
    inner.normalizer = normalizers.NFC()
    pieces = "|".join(sorted(set(WORDS.split()) - set("?.:"), key=len, reverse=True))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(rf"\b(?:{pieces})\b|."), "isolated")
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, padding_side="left", **named)
    made.add_special_tokens({"additional_special_tokens": every})
    return made


def clip_tower(side: int, patch: int) -> CLIPVisionConfig:
    """A tiny CLIP tower: CLS token, three blocks, the last of which LLaVA leaves out."""
    return CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=side,
        patch_size=patch,
    )


def llama(tokens: PreTrainedTokenizerFast) -> LlamaConfig:
    """A tiny Llama for a tokenizer."""
    return LlamaConfig(**_TEXT, vocab_size=len(tokens))


def qwen2(tokens: PreTrainedTokenizerFast) -> Qwen2Config:
    """A tiny Qwen2 for a tokenizer."""
    return Qwen2Config(**_TEXT, vocab_size=len(tokens))


_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


class Recipe(ABC):
    """How to build a random checkpoint of one family; subclassed by each test file.

    `picture_settings`, `film_settings` and `processor_settings` are written as the checkpoint's
    JSON files; `processor` builds the Hugging Face processor from the first and the last.
    """

    family: ClassVar[type[Family]]
    chat_template: ClassVar[str]
    picture_settings: ClassVar[dict[str, Any]] = {}
    film_settings: ClassVar[dict[str, Any]] = {}
    processor_settings: ClassVar[dict[str, Any]] = {}
    pixels_name: ClassVar[str] = "pixel_values"
    #: The video processor's class in transformers, for families that have one.
    video_processor: ClassVar[str] = ""
    #: Sizes (height, width) of the pictures whose pixels are compared.
    sizes: ClassVar[Sequence[tuple[int, int]]] = SIZES
    film_sizes: ClassVar[Sequence[tuple[int, int]]] = FILM_SIZES
    #: Cases that Hugging Face itself cannot run, and why.
    beyond: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer, with the family's special tokens."""

    @abstractmethod
    def model(self, tokens: PreTrainedTokenizerFast) -> Any:
        """A random model; every test of a family uses the same one."""

    @abstractmethod
    def image_processor(self) -> Any:
        """The Hugging Face image processor that needs no torchvision."""

    @abstractmethod
    def processor(self, tokens: PreTrainedTokenizerFast, films: Any) -> Any:
        """The Hugging Face processor; `films` stands in for the video processor."""

    def processed(self, films: Sequence[Views]) -> dict[str, Any]:
        """What the Hugging Face video processor returns, from our views of the films."""
        stacked = torch.stack([item.inputs["pixel_values"] for item in films])
        return {"pixel_values_videos": stacked}

    def processed_by_torchvision(self, frames: Tensor) -> Mapping[str, Any]:
        """What the Hugging Face video processor makes of a film (T, H, W, 3) uint8."""
        made = getattr(transformers, self.video_processor)(**self.film_settings)
        return made([frames.numpy()], do_sample_frames=False, return_tensors="pt")

    def reference_text(self, text: str, views: Sequence[Views]) -> str:
        """The prompt as the Hugging Face processor wants it, where it differs from ours."""
        return text

    def reference_media(self, row: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The pictures and films of a row as Hugging Face is given them."""
        return [item for item in row if item.ndim == 3], [item for item in row if item.ndim == 4]


class Films:
    """Stands in for a video processor: hands out what a test gave it."""

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    def __call__(self, videos: Any, **kwargs: Any) -> BatchFeature:
        return BatchFeature(dict(self.result))


@dataclass
class Checkpoint:
    """A random checkpoint on disk, loaded as ours and as Hugging Face's."""

    recipe: Recipe
    folder: Path
    family: Family
    processor: Any
    films: Films

    @property
    def model(self) -> Any:
        return self.family.model


def checkpoint(recipe: Recipe, folder: Path) -> Checkpoint:
    """Build, save and load a checkpoint."""
    torch.manual_seed(7)
    tokens = recipe.tokenizer()
    model = recipe.model(tokens).eval()
    with torch.no_grad():  # random weights of the usual size make every answer the same
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    model.generation_config.eos_token_id = tokens.eos_token_id
    model.generation_config.pad_token_id = tokens.pad_token_id
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    for name, settings in (
        ("preprocessor_config.json", recipe.picture_settings),
        ("video_preprocessor_config.json", recipe.film_settings),
        ("processor_config.json", recipe.processor_settings),
        ("chat_template.json", {"chat_template": recipe.chat_template}),
    ):
        if settings:
            (folder / name).write_text(json.dumps(settings))
    loaded = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(folder)
    family = family_for(loaded.config)(loaded, words, read_settings(folder))
    films = Films()
    with pytest.MonkeyPatch.context() as patch:
        # The check of the parts' classes looks up the video processors, which need torchvision.
        patch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)
        processor = recipe.processor(words, films)
    return Checkpoint(recipe, folder, family, processor, films)


# ---- one request, ours and theirs --------------------------------------------------------------


def views_of(family: Family, row: Sequence[Tensor]) -> list[Views]:
    """The views of a row's media, in the order of the prompt."""
    alone = sum(item.ndim == 3 for item in row) == 1
    return [
        family.picture_views(item, alone)
        if item.ndim == 3
        else family.film_views(item, times(item), 0.5 * len(item))
        for item in row
    ]


def ours(family: Family, case: Case) -> tuple[Batch, list[list[int]]]:
    """The spliced batch and the expanded prompt ids of each row."""
    rows = [views_of(family, row) for row in case.media]
    ids = [
        family.ids(family.expand(family.prompt_text(messages), views))
        for messages, views in zip(case.rows, rows, strict=True)
    ]
    packed: dict[int, VisualTokens] = {}
    for kind in ("image", "video"):
        same = [item for views in rows for item in views if item.kind == kind]
        if same:
            maps = family.project(family.encode(same))
            packed |= {id(item): family.pack(m) for item, m in zip(same, maps, strict=True)}
    prompts = []
    for views, row in zip(rows, ids, strict=True):
        tokens = [packed[id(item)] for item in views]
        media = [Medium(t.views.kind, t, t, len(t)) for t in tokens]
        prompts.append(splice(family, row, media, family.model.get_input_embeddings()))
    filler = family.model.get_input_embeddings()(torch.tensor(family.tokenizer.pad_token_id))
    return pad(prompts, filler), ids


def theirs(made: Checkpoint, case: Case) -> BatchFeature:
    """The Hugging Face processor's inputs for the same request."""
    family, recipe = made.family, made.recipe
    texts, pictures, films, film_views = [], [], [], []
    for messages, row in zip(case.rows, case.media, strict=True):
        views = views_of(family, row)
        texts.append(recipe.reference_text(family.prompt_text(messages), views))
        images, videos = recipe.reference_media(row)
        pictures.append([Image.fromarray(item.numpy()) for item in images])
        films += [item.numpy() for item in videos]
        film_views += [view for view, item in zip(views, row, strict=True) if item.ndim == 4]
    made.films.result = recipe.processed(film_views) if films else {}
    media: dict[str, Any] = {}
    if any(pictures):
        media["images"] = pictures
    if films:
        media["videos"] = films
    return made.processor(
        text=texts, **media, padding=True, padding_side="left", return_tensors="pt"
    )


def forwarded(made: Checkpoint, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with what `generate` itself would add for a padded batch."""
    out = dict(inputs)
    mask = out["attention_mask"]
    if not made.family.mrope and not bool(mask.all()):
        out["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    return out


def deepstacked(family: Family, batch: Batch) -> AbstractContextManager[None]:
    """The visual features that a family adds behind its first layers, if it does."""
    if not batch.extra:
        return nullcontext()
    return deepstack(family.decoder, batch.extra, batch.medium >= 0)


class FamilyTests:
    """The tests of one family. Subclasses set `recipe`, and `only` to run fewer cases."""

    recipe: ClassVar[Recipe]
    only: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def made(self, checkpoints: Callable[[Recipe], Checkpoint]) -> Checkpoint:
        return checkpoints(self.recipe)

    def test_loads_as_its_family(self, made: Checkpoint):
        assert type(made.family) is self.recipe.family
        assert made.model.config.model_type in self.recipe.family.model_types

    def test_the_template_is_the_processors(self, made: Checkpoint, case: Case):
        for messages in case.rows:
            templated = made.processor.apply_chat_template(
                as_hugging_face(messages, made.family),
                chat_template=self.recipe.chat_template,
                add_generation_prompt=True,
                tokenize=False,
            )
            assert made.family.prompt_text(messages) == templated

    def test_pixels_of_a_picture_equal_the_processors(
        self, made: Checkpoint, size: tuple[int, int]
    ):
        image = picture(*size)
        views = made.family.picture_views(image, True)
        expected = made.processor.image_processor(
            [[Image.fromarray(image.numpy())]], return_tensors="pt"
        )
        assert_inputs_equal(views.inputs, expected, self.recipe.pixels_name)

    def test_prompt_ids_equal_the_processors(self, made: Checkpoint, case: Case):
        batch, ids = ours(made.family, case)
        inputs = theirs(made, case)
        longest = inputs["input_ids"].shape[1]
        padded = [[made.family.tokenizer.pad_token_id] * (longest - len(row)) + row for row in ids]
        assert padded == inputs["input_ids"].tolist()
        assert batch.mask.tolist() == inputs["attention_mask"].tolist()

    @torch.no_grad()
    def test_logits_equal_bit_for_bit(self, made: Checkpoint, case: Case):
        batch, _ = ours(made.family, case)
        inputs = theirs(made, case)
        expected = made.model(**forwarded(made, inputs)).logits
        with deepstacked(made.family, batch):
            logits = made.model(
                inputs_embeds=batch.embeds,
                attention_mask=batch.mask,
                position_ids=batch.positions,
            ).logits
        real = batch.mask.bool()
        assert 1e-3 < batch.embeds[batch.medium >= 0].std(0).mean() < 1e3  # worth comparing
        assert torch.equal(logits[real], expected[real])

    @torch.no_grad()
    def test_greedy_tokens_equal_generate(self, made: Checkpoint, case: Case):
        batch, _ = ours(made.family, case)
        inputs = theirs(made, case)
        options = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
        expected = made.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
        with deepstacked(made.family, batch):
            tokens = made.model.generate(
                inputs_embeds=batch.embeds,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                **options,
            )
        assert tokens.tolist() == expected.tolist()

    def test_the_pipeline_answers_with_the_same_tokens(self, made: Checkpoint, case: Case):
        vlm = VLM(made.family, Plan(str(made.folder)))
        conversations = [with_media(*row) for row in zip(case.rows, case.media, strict=True)]
        replies = vlm.chat_batch(
            conversations, max_tokens=NEW_TOKENS, frames="all", do_sample=False
        )
        inputs = theirs(made, case)
        with torch.no_grad():
            out = made.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        end = made.model.generation_config.eos_token_id
        expected = out[:, inputs["input_ids"].shape[1] :].tolist()
        for reply, row in zip(replies, expected, strict=True):
            assert list(reply.tokens) == row[: row.index(end) + 1 if end in row else None]

    @torch.no_grad()
    def test_signals_change_nothing_and_follow_the_tokens(self, made: Checkpoint):
        family = made.family
        views = [family.picture_views(WIDE, True)]
        if FILM in family.supports:
            views.append(family.film_views(CLIP, times(CLIP), 2.0))
        names = sorted(family.supplies() - NO_ROWS)
        for item in views:
            plain, read = (
                family.pack(family.project(family.encode([item], needs))[0])
                for needs in ([], [Need(name) for name in names])
            )
            assert torch.equal(plain.embeds, read.embeds)
            assert sorted(read.signals) == names
            for value in read.signals.values():
                assert len(value) == len(read)
                assert value.isfinite().all()
                assert (value[read.prunable].std(0) > 0).any()

    def test_packed_tokens_know_where_they_come_from(self, made: Checkpoint, case: Case):
        for row in case.media:
            for views in views_of(made.family, row):
                assert_provenance(made.family, views)


class FilmTests(FamilyTests):
    """The tests of a family whose checkpoints come with a video processor."""

    def test_pixels_of_a_film_equal_the_processors(
        self, made: Checkpoint, torchvision: Any, film_size: tuple[int, int]
    ):
        frames = film(*film_size)
        views = made.family.film_views(frames, times(frames), 2.0)
        expected = made.recipe.processed_by_torchvision(frames)
        assert_inputs_equal(views.inputs, expected, "pixel_values_videos")


def with_media(messages: Sequence[dict[str, Any]], media: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The messages with their media in place, films at the rate of `times`."""
    waiting = iter(media)
    return [
        {
            "role": message["role"],
            "content": [
                part
                if part["type"] == "text"
                else {"type": part["type"], part["type"]: load_media(next(waiting), fps=2.0)}
                for part in message["content"]
            ],
        }
        for message in messages
    ]


def film_as_pictures(text: str, mark: str, views: Sequence[Views]) -> str:
    """A prompt in which a film's placeholder is written once for every frame."""
    pieces = text.split(mark)
    marks = [mark * len(item) for item in views]
    return pieces[0] + "".join(m + p for m, p in zip(marks, pieces[1:], strict=True))


def as_hugging_face(messages: Sequence[dict[str, Any]], family: Family) -> list[dict[str, Any]]:
    """Messages for a processor's own template, which may know pictures only."""
    known = "'video'" in str(family.settings.chat_template)
    return [
        {
            "role": message["role"],
            "content": [
                {"type": "image"} if part["type"] == "video" and not known else part
                for part in message["content"]
            ],
        }
        for message in messages
    ]


def assert_inputs_equal(
    inputs: Mapping[str, Tensor], expected: Mapping[str, Any], pixels_name: str = "pixel_values"
) -> None:
    """Pixels of one medium, ours and the processor's (which has a leading batch dimension)."""
    pixels = expected[pixels_name]
    own_name = pixels_name if pixels_name in inputs else "pixel_values"
    ours = inputs[own_name]
    assert ours.dtype == pixels.dtype
    assert torch.equal(ours.reshape(-1), pixels.reshape(-1))
    for name, value in inputs.items():
        if name != own_name and name in expected:
            assert value.flatten().tolist() == torch.as_tensor(expected[name]).flatten().tolist()


def assert_provenance(family: Family, views: Views) -> None:
    """Features that hold their own patch's place must be packed with exactly that place."""
    height, width = views.grid
    [features] = family.encode([views])
    [projected] = family.project([features])
    packed = family.pack(projected)
    count = len(packed)
    assert count == packed.total == int(packed.index[-1]) + 1
    assert features.features.shape[:3] == (len(views), height, width)
    for name in ("time", "box", "view", "weight", "prunable", "coords"):
        assert len(getattr(packed, name)) == count
    assert packed.view.max() < len(views)
    assert (packed.prunable == (packed.view >= 0)).all()
    real = packed.prunable
    assert torch.allclose(packed.time[real], views.times.float()[packed.view[real]], atol=1e-4)
    box = packed.box[real]
    middle = (box[:, :2] + box[:, 2:]) / 2
    assert (box[:, :2] < box[:, 2:]).all()
    assert (middle >= views.boxes[:, :2].amin(0)).all()
    assert (middle <= views.boxes[:, 2:].amax(0)).all()
    assert_no_gap_no_overlap(packed, views)
    crafted = projected.features.clone()
    shape = crafted.shape[:3]
    place = torch.stack(
        [
            (projected.box[..., 0] + projected.box[..., 2]) / 2,
            (projected.box[..., 1] + projected.box[..., 3]) / 2,
            torch.arange(shape[0]).view(-1, 1, 1).expand(shape).float(),
        ],
        -1,
    )
    crafted[..., :3] = place
    changed: dict[str, Any] = {"features": crafted}
    if (rows := getattr(projected, "cls", None)) is not None:  # a token of the whole view
        whole = (views.boxes[:, :2] + views.boxes[:, 2:]) / 2
        numbers = torch.arange(shape[0]).float()[:, None]
        changed["cls"] = torch.cat([whole, numbers, rows[:, 3:]], 1)
    repacked = family.pack(replace(projected, **changed))
    assert torch.allclose(repacked.embeds[real, :2], middle, atol=1e-4)
    assert torch.allclose(repacked.embeds[real, 2].round().long(), packed.view[real])


def assert_no_gap_no_overlap(packed: VisualTokens, views: Views) -> None:
    """The tokens of each view, and of all tiles together, divide what the views show."""
    at = (torch.arange(24) + 0.5) / 24
    y, x = (side.flatten() for side in torch.meshgrid(at, at, indexing="ij"))
    tiled = torch.tensor([role == "tile" for role in views.roles])
    groups = [torch.tensor([place]) for place in (~tiled).nonzero()[:, 0]]
    groups += [tiled.nonzero()[:, 0]] if tiled.any() else []
    for group in groups:
        box = packed.box[torch.isin(packed.view, group)]
        if len(box) > 1:  # a CLS token stands for its whole view
            whole = (views.boxes[group[0]] == box[0]).all() and not tiled.any()
            box = box[1:] if whole else box
        hits = _inside(x, y, box).sum(0)
        shown = _inside(x, y, views.boxes[group]).any(0)
        assert hits.max() == 1
        assert (
            hits[shown] == 1
        ).float().mean() > 0.85  # any-res cuts off what shares a patch with padding
        assert not hits[~shown].any()


def _inside(x: Tensor, y: Tensor, box: Tensor) -> Tensor:
    """Which points (P,) lie in which boxes (N, 4): (N, P)."""
    x0, y0, x1, y1 = box[:, :, None].unbind(1)
    return (x > x0) & (x <= x1) & (y > y0) & (y <= y1)
