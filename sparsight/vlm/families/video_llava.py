"""Video-LLaVA: a tower for pictures and another for films, whose frames keep their CLS token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsight.core.slots import Need
from sparsight.core.tokens import FeatureMap, Views, VisualTokens, pack
from sparsight.modules.towers import TowerMerge
from sparsight.vlm.families.llava import Llava


@dataclass(frozen=True)
class FilmMap(FeatureMap):
    """A film's features with the CLS row (V, C) of each frame, which the prompt holds too.

    A system that packs in its own way leaves it out; the family's packing puts it first.
    """

    cls: Tensor = field(kw_only=True)


class VideoLlava(Llava):
    name = "video-llava"
    label = "Video-LLaVA"
    model_types = ("video_llava",)
    examples = ("LanguageBind/Video-LLaVA-7B-hf",)
    default_frames = "uniform:8"
    film_kind = "video"
    pads = False

    def tower(self, kind: str) -> nn.Module:
        return self.inner.image_tower if kind == "image" else self.inner.video_tower

    def count(self, views: Views) -> int:
        return super().count(views) + (len(views) if views.kind == "video" else 0)

    def encode(
        self,
        views: Sequence[Views],
        needs: Sequence[Need] = (),
        merge: Callable[[int, int], TowerMerge] | None = None,
    ) -> list[FeatureMap]:
        if views[0].kind == "image":
            return super().encode(views, needs, merge)
        rows: list[Tensor] = []

        def keep(_: nn.Module, args: Any, out: Any) -> None:
            rows.append(self.selected(out.hidden_states)[:, 0])

        hook = self.tower("video").register_forward_hook(keep)
        try:
            maps = super().encode(views, needs, merge)
        finally:
            hook.remove()
        parts = rows[0].split([len(item) for item in views])
        return [FilmMap(**vars(item), cls=part) for item, part in zip(maps, parts, strict=True)]

    def project(self, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        films = [item for item in maps if isinstance(item, FilmMap)]
        if len(films) < len(maps):
            return super().project(maps)
        wide = [replace(item, features=_with_cls(item.features, item.cls)) for item in films]
        return [
            replace(
                item,
                features=done.features[:, 0, 1:].unflatten(1, item.features.shape[1:3]),
                raw=item.features,
                projector=done.projector,
                cls=done.features[:, 0, 0],
            )
            for item, done in zip(films, super().project(wide), strict=True)
        ]

    def pack(self, features: FeatureMap) -> VisualTokens:
        if not isinstance(features, FilmMap):
            return super().pack(features)
        ones = features.weight.new_ones(len(features.views))
        wide = FeatureMap(
            features=_with_cls(features.features, features.cls),
            box=_with_cls(features.box, features.views.boxes.to(features.box)),
            time=_with_cls(features.time[..., None], features.time[:, 0, :1])[..., 0],
            weight=_with_cls(features.weight[..., None], ones[:, None])[..., 0],
            views=features.views,
            signals={
                name: _with_cls(value, value.flatten(1, 2).mean(1))
                for name, value in features.signals.items()
            },
            projector=features.projector,
        )
        return pack(wide, self.layout(wide))


def _with_cls(patches: Tensor, cls: Tensor) -> Tensor:
    """(V, h, w, S) and (V, S) -> (V, 1, 1 + h * w, S)."""
    return torch.cat([cls[:, None], patches.flatten(1, 2)], 1)[:, None]
