"""What a family of checkpoints must offer: the one interface the pipeline knows.

A family turns a Hugging Face checkpoint into the parts of a VLM: views, prompt ids, tower,
connector, packing, positions. Only the files in this folder know Hugging Face class names.

Shape suffixes: V views, h w patches of a view, C tower width, D LLM width, N tokens of a medium,
L sequence.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparsight.core.errors import UserError
from sparsight.core.slots import Need
from sparsight.core.tokens import FeatureMap, Views, VisualTokens, feature_map, pack
from sparsight.llm.attention import Rows, probe
from sparsight.modules.towers import TowerMerge, can_merge, can_observe, merging
from sparsight.vlm.families.settings import Settings

#: What a family can be asked about.
PICTURE, PICTURES, FILM, MIXED = "picture", "pictures", "film", "mixed"


class Family:
    """The parts of one loaded checkpoint.

    Subclasses set the class attributes and implement `picture_views`, `film_views` and
    `expand`; the defaults below serve towers that take square (V, 3, S, S) pixels.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    examples: ClassVar[tuple[str, ...]] = ()
    supports: ClassVar[frozenset[str]] = frozenset({PICTURE, PICTURES, FILM, MIXED})
    default_frames: ClassVar[str] = "uniform:8"
    mrope: ClassVar[bool] = False

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        self.model = model
        self.config = model.config
        self.tokenizer = tokenizer
        self.settings = settings

    # ---- parts -------------------------------------------------------------------------------

    @property
    def decoder(self) -> nn.Module:
        """The text decoder: a module with `.layers`."""
        return self.model.model.language_model

    @property
    def inner(self) -> Any:
        """The Hugging Face model without its LM head."""
        return self.model.model

    def tower(self, kind: str) -> nn.Module:
        """The vision tower for a kind of placeholder ("image" or "video")."""
        return self.inner.vision_tower

    def stack(self, kind: str) -> nn.Module | None:
        """The part of the tower that holds its blocks as `.layers`; None if there is none."""
        for part in self.tower(kind).modules():
            if isinstance(getattr(part, "layers", None), nn.ModuleList):
                return part
        return None

    def blocks(self, kind: str) -> Sequence[nn.Module]:
        """The tower's blocks, first to last; empty where it is not made of plain blocks."""
        stack = self.stack(kind)
        return [] if stack is None else list(stack.layers)  # type: ignore[arg-type]

    @property
    def frames(self) -> int:
        """How many frames of a film the checkpoint takes by default."""
        return int(self.default_frames.rpartition(":")[2])

    @property
    def together(self) -> int:
        """How many neighbouring frames of a film the tower reads as one; it sees nothing across."""
        return 1

    def has_cls(self, kind: str) -> bool:
        """Whether token 0 of the tower's sequence is a CLS token."""
        return self.config.vision_feature_select_strategy == "default"

    def producer(self, kind: str) -> int:
        """Index of the tower block whose output is the feature."""
        layer = self.config.vision_feature_layer
        layer = layer if isinstance(layer, int) else layer[-1]
        return len(self.blocks(kind)) + layer if layer < 0 else layer - 1

    @property
    def pad_token(self) -> int:
        """The token id that fills a batch on the left."""
        for value in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if value is not None:
                return int(value)
        return 0

    def placeholder(self, kind: str) -> int:
        """The token id that stands for one visual token of this kind."""
        config = self.config
        name = "image_token_id" if kind == "image" else "video_token_id"
        return int(getattr(config, name, None) or config.image_token_id)

    def marks(self) -> frozenset[str]:
        """What stands for a medium in a prompt, and so may not stand in the user's text."""
        ids = [self.placeholder(kind) for kind in ("image", "video")]
        named = ("image_token", "video_token", "context_image_token")
        found = [getattr(self.tokenizer, name, None) for name in named]
        return frozenset([*self.tokenizer.convert_ids_to_tokens(ids), *filter(None, found)])

    def supplies(self) -> frozenset[str]:
        """The needs this family can meet."""
        found = {"question_attention"} | ({"film"} if FILM in self.supports else set())
        if can_observe(self.blocks("image")):
            found |= {"received_attention", "keys", "features"}
            if self.has_cls("image"):
                found |= {"cls_attention", "cls_attention_joined", "cls_feature"}
        if can_merge(self.blocks("image")):
            found.add("tower_blocks")
        if FILM in self.supports:
            found.add("square_views")
        return frozenset(found)

    # ---- from pixels to views ----------------------------------------------------------------

    def picture_views(self, picture: Tensor, alone: bool) -> Views:
        """A picture (H, W, 3) uint8 -> its views; `alone` if it is the only one of its prompt."""
        raise AssertionError(f"{type(self).__name__} must implement picture_views")

    def film_views(self, frames: Tensor, times: Sequence[float], duration: float) -> Views:
        """Frames (T, H, W, 3) uint8 shown at `times` seconds -> views, as one film."""
        raise AssertionError(f"{type(self).__name__} must implement film_views")

    def batch_inputs(self, views: Sequence[Views]) -> Mapping[str, Tensor]:
        """The tower's arguments for several media of one kind, as one call takes them."""
        values = [item.inputs["pixel_values"] for item in views]
        return {"pixels": values[0] if len(values) == 1 else torch.cat(values)}

    def square_pixels(self, views: Views) -> Tensor:
        """A film's preprocessed frames (T, 3, S, S); for families that supply "square_views"."""
        return self.batch_inputs([views])["pixels"]

    def with_thumbnails(self, views: Views, more: Tensor) -> Views:
        """A film's views with further ones (K, 3, S, S) behind its frames."""
        count = len(more)
        first, last = views.times[0], views.times[-1]
        return replace(
            views,
            inputs={**views.inputs, "pixel_values": torch.cat([self.square_pixels(views), more])},
            boxes=torch.cat([views.boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(count, 4)]),
            times=torch.cat([views.times, ((first + last) / 2).expand(count)]),
            roles=(*views.roles, *["thumbnail"] * count),
        )

    # ---- the prompt --------------------------------------------------------------------------

    def prompt_text(self, messages: Sequence[Mapping[str, Any]], generate: bool = True) -> str:
        """The checkpoint's chat template over messages whose content is a list of parts with
        types "image", "video" and "text"; one placeholder a medium."""
        return self.tokenizer.apply_chat_template(
            list(messages),
            chat_template=self.settings.chat_template,
            tokenize=False,
            add_generation_prompt=generate,
        )

    def expand(self, text: str, views: Sequence[Views]) -> str:
        """Write every placeholder out as often as its medium has visual tokens."""
        raise AssertionError(f"{type(self).__name__} must implement expand")

    def ids(self, text: str) -> list[int]:
        """Token ids of an expanded prompt.

        Thousands of placeholders in a row are cut by the tokenizer as one and then repeated.
        """
        marks = sorted(self.marks(), key=len, reverse=True)
        single = {self.tokenizer.convert_tokens_to_ids(mark): mark for mark in marks}
        runs = re.compile("|".join(f"(?:{re.escape(mark)})+" for mark in marks))
        lengths = [len(run[0]) for run in runs.finditer(text)]
        short = runs.sub(lambda run: next(m for m in marks if run[0].startswith(m)), text)
        repeats = iter(lengths)
        ids: list[int] = []
        for token in self.tokenizer(short)["input_ids"]:
            mark = single.get(token)
            ids += [token] * (1 if mark is None else next(repeats) // len(mark))
        return ids

    # ---- the tower and the connector ---------------------------------------------------------

    def encode(
        self,
        views: Sequence[Views],
        needs: Sequence[Need] = (),
        merge: Callable[[int, int], TowerMerge] | None = None,
    ) -> list[FeatureMap]:
        """Run the tower once over several media of one kind.

        Args:
            views: media that share a kind.
            needs: signals to read on the way (only those the family supplies).
            merge: (blocks, tokens of a view) -> the merging inside the tower.
        """
        kind = views[0].kind
        blocks = self.blocks(kind)
        cls = self.has_cls(kind)
        tokens = views[0].grid[0] * views[0].grid[1]
        producer = self.producer(kind)
        plan = merge(producer + 1, tokens) if merge is not None else None
        with ExitStack() as stack:
            # Blocks behind the one that yields the features must not merge: their tokens are
            # never used, and `plan.source` has to describe the features.
            stack.enter_context(merging(blocks[: producer + 1], plan))
            tower = self.stack(kind) or self.tower(kind)
            reads = {
                need: (layer, stack.enter_context(probe(tower, {layer: rule})))
                for need in needs
                if (rule := _SIGNALS.get(need.name)) is not None
                for layer in [self._block(need, kind)]
            }
            features = self.tower_features(kind, **self.batch_inputs(views))
        signals: dict[str, Tensor] = {}
        for need, (layer, scores) in reads.items():
            value = scores[layer]  # (V, H, 1, N), or (V, H, N, a) for keys
            value = value.transpose(1, 2).flatten(2) if need.name == "keys" else value[:, :, 0].mT
            # What the last merging block leaves is what all blocks behind it see.
            value = value if plan is None else plan.restore(value, min(layer, producer + 1))
            signals[need.key] = value[:, 1:] if cls else value
        if plan is not None:
            features = plan.restore(features)  # the grid that the connector expects
        first, features = features[:, :1], features[:, 1:] if cls else features
        names = {need.name for need in needs}
        if "features" in names:
            signals["features"] = features
        if "cls_feature" in names:
            signals["cls_feature"] = first.expand_as(features)
        sizes = [len(item) for item in views]
        parts = features.split(sizes)
        split = {name: value.split(sizes) for name, value in signals.items()}
        return [
            feature_map(
                parts[place].unflatten(1, item.grid),
                item,
                {n: v[place].reshape(len(item), *item.grid, -1) for n, v in split.items()},
            )
            for place, item in enumerate(views)
        ]

    def _block(self, need: Need, kind: str) -> int:
        """The index of the tower block that a need is read from."""
        if need.block == "last":
            return len(self.blocks(kind)) - 1
        return self.producer(kind) + need.block + 1 if need.block < 0 else need.block

    def tower_features(self, kind: str, pixels: Tensor) -> Tensor:
        """Pixels (V, 3, S, S) -> the selected features (V, N, C), CLS first where there is one."""
        # Recent transformers keep a layer named by its number alone; older ones keep all.
        layer = self.config.vision_feature_layer
        wanted = layer if isinstance(layer, int) and layer else True
        out = self.tower(kind)(pixels.to(self.model.dtype), output_hidden_states=wanted)
        return self.selected(out.hidden_states)

    def selected(self, states: Sequence[Tensor]) -> Tensor:
        """The hidden states (V, N, C) that are the features; several layers stand side by side."""
        layer = self.config.vision_feature_layer
        if isinstance(layer, int):
            return states[layer]
        return torch.cat([states[place] for place in layer], -1)

    def project(self, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        """Project features (V, h, w, C) of several media to (V, h', w', D) in one call."""
        flat = torch.cat([item.features.flatten(1, 2) for item in maps])
        projector = self.inner.multi_modal_projector
        parts = projector(flat).split([len(item.views) for item in maps])
        return [
            replace(
                item,
                features=part.unflatten(1, tuple(item.features.shape[1:3])),
                raw=item.features,
                projector=projector,
            )
            for item, part in zip(maps, parts, strict=True)
        ]

    def layout(self, features: FeatureMap) -> Callable[[Tensor, Tensor | None], Tensor]:
        """The packing of (V, h, w, channels) and a separator into (N, channels)."""
        return lambda x, separator: x.flatten(0, 2)

    def separator(self, features: FeatureMap) -> Tensor | None:
        """The newline embedding (D,) that `layout` inserts."""
        return None

    def coords(self, features: FeatureMap) -> Tensor | None:
        """Grid coordinates (N, 3) for M-RoPE; None for families without."""
        return None

    def slots(self, features: FeatureMap) -> int:
        """How many placeholders the prompt has for one medium, from its projected features."""
        one = features.features.new_zeros(*features.features.shape[:3], 1)
        separator = self.separator(features)
        return len(self.layout(features)(one, None if separator is None else one.new_zeros(1)))

    def pack(self, features: FeatureMap) -> VisualTokens:
        """Projected features -> the packed tokens of one medium, in the family's own way."""
        return pack(
            features, self.layout(features), self.separator(features), self.coords(features)
        )

    # ---- positions ---------------------------------------------------------------------------

    def positions(self, runs: Sequence[VisualRun | int]) -> Tensor:
        """Position ids of a prompt: (1, L), or (3, L) for families with M-RoPE.

        `runs` is the prompt as stretches: an int is that many text tokens, a `VisualRun` the
        coordinates of consecutive visual tokens.
        """
        length = sum(run if isinstance(run, int) else len(run.coords) for run in runs)
        return torch.arange(length)[None]


def write_out(text: str, media: Sequence[tuple[str, str]]) -> str:
    """Put something in the place of every placeholder of a templated prompt.

    Args:
        text: the prompt; each medium's mark stands in it once.
        media: the mark and what to write for it, in the order of the prompt for each mark.

    Raises `UserError` when a mark stands in the prompt more or less often than it should.
    """
    waiting: dict[str, deque[str]] = {mark: deque() for mark, _ in media}
    for mark, written in media:
        waiting[mark].append(written)
    for mark, queue in waiting.items():
        if text.count(mark) != len(queue):
            raise UserError(
                f"the prompt holds {mark!r} {text.count(mark)} times for {len(queue)} media: "
                "leave it out of the text, and use a chat template that names each medium once"
            )
    marks = "|".join(re.escape(mark) for mark in waiting)
    return re.sub(marks, lambda match: waiting[match[0]].popleft(), text) if marks else text


class VisualRun:
    """A stretch of visual tokens without text between: coords (n, 3), seconds (n,)."""

    def __init__(self, coords: Tensor, time: Tensor, kind: str) -> None:
        self.coords, self.time, self.kind = coords, time, kind


#: Signals read from the tower, and the attention rows they are made of.
_SIGNALS: dict[str, Rows] = {
    "cls_attention": "cls",
    "cls_attention_joined": "cls-joined",
    "received_attention": "received",
    "keys": "keys",
}
