"""Qwen2-VL: any resolution, two frames a temporal patch, 2x2 patches merged, M-RoPE.

A picture is one view, a film one view for every two frames. The merger sits inside the tower, so
`project` has nothing to do. Shapes: T temporal patches, h w merged rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from sparsight.core.slots import Need
from sparsight.core.tokens import FeatureMap, Views, feature_map
from sparsight.modules.towers import TowerMerge
from sparsight.vlm.families import pixels
from sparsight.vlm.families.base import Family, VisualRun, write_out

Kind = Literal["image", "video"]
_PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}


class PackedFamily(Family):
    """Families whose tower takes flat patches of views of any size in one packed sequence.

    Such a tower has neither square views nor signals that are read row by row.
    """

    #: What holds where the checkpoint's own files are silent.
    picture_defaults: ClassVar[Mapping[str, Any]]
    film_defaults: ClassVar[Mapping[str, Any]]

    @property
    def together(self) -> int:
        return int(self.film_settings()["temporal_patch_size"])

    def has_cls(self, kind: str) -> bool:
        return False

    def producer(self, kind: str) -> int:
        return len(self.blocks(kind)) - 1

    def supplies(self) -> frozenset[str]:
        return frozenset({"film", "question_attention"})

    # ---- from pixels to views ----------------------------------------------------------------

    def picture_settings(self) -> Mapping[str, Any]:
        """The image processor's settings; `size` holds the least and the most pixels."""
        return _with_limits(pixels.settings_of(self.settings.picture, self.picture_defaults))

    def film_settings(self) -> Mapping[str, Any]:
        """The video processor's settings, which older checkpoints share with pictures."""
        given = self.settings.film or self.settings.picture
        return _with_limits(pixels.settings_of(given, self.film_defaults))

    def film_size(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) to which `frames` frames of a (height, width) are resized."""
        raise AssertionError(f"{type(self).__name__} must implement film_size")

    def picture_views(self, picture: Tensor, alone: bool) -> Views:
        settings = self.picture_settings()
        size = (int(picture.shape[0]), int(picture.shape[1]))
        if settings.get("do_resize", True):
            target = pixels.smart_size(
                size,
                settings["patch_size"] * settings["merge_size"],
                settings["size"]["shortest_edge"],
                settings["size"]["longest_edge"],
            )
            picture = pixels.resize(picture, target, settings.get("resample", 3))
        frame = pixels.normalize(picture, settings)[None]
        return self.packed_views("image", frame, settings, [0.0], size)

    def film_views(self, frames: Tensor, times: Sequence[float], duration: float) -> Views:
        settings = self.film_settings()
        size = (int(frames.shape[1]), int(frames.shape[2]))
        frames = frames.permute(0, 3, 1, 2).contiguous()
        if settings.get("do_resize", True):
            target = self.film_size(len(frames), size)
            frames = pixels.resize_frames(frames, target, settings.get("resample", 3))
        values = pixels.normalize_frames(frames, settings)
        return self.packed_views("video", values, settings, times, size)

    def packed_views(
        self,
        kind: Kind,
        frames: Tensor,
        settings: Mapping[str, Any],
        times: Sequence[float],
        size: tuple[int, int],
    ) -> Views:
        """Normalised frames (T', 3, H, W) at `times` (T') seconds -> the views of one medium.

        A view's time is halfway between its first and its last frame.
        """
        patch, merge, group = (
            settings[name] for name in ("patch_size", "merge_size", "temporal_patch_size")
        )
        rows, columns = frames.shape[-2] // patch, frames.shape[-1] // patch
        full = list(times) + [times[-1]] * (-len(times) % group)
        middles = [(full[i] + full[i + group - 1]) / 2 for i in range(0, len(full), group)]
        count = len(middles)
        return Views(
            kind=kind,
            inputs={
                _PIXELS[kind]: pixels.patchify(frames, patch, group, merge),
                f"{kind}_grid_thw": torch.tensor([[count, rows, columns]]),
            },
            boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(count, 4),
            # Timestamps are written into the prompt: float32 would round some the other way.
            times=torch.tensor(middles, dtype=torch.float64),
            roles=("picture" if kind == "image" else "frame",) * count,
            grid=(rows // merge, columns // merge),
            size=size,
        )

    def batch_inputs(self, views: Sequence[Views]) -> Mapping[str, Tensor]:
        kind = views[0].kind
        return {
            name: torch.cat([item.inputs[name] for item in views]).to(self.model.device)
            for name in (_PIXELS[kind], f"{kind}_grid_thw")
        }

    # ---- the prompt --------------------------------------------------------------------------

    def film_text(self, views: Views, token: str) -> str:
        """What stands in the prompt for a film whose placeholder is `token`."""
        raise AssertionError(f"{type(self).__name__} must implement film_text")

    def expand(self, text: str, views: Sequence[Views]) -> str:
        media = []
        for item in views:
            mark = self.tokenizer.convert_ids_to_tokens(self.placeholder(item.kind))
            rows, columns = item.grid
            picture = mark * (rows * columns)
            media.append((mark, picture if item.kind == "image" else self.film_text(item, mark)))
        return write_out(text, media)


class Qwen2VL(PackedFamily):
    name = "qwen2-vl"
    label = "Qwen2-VL"
    model_types = ("qwen2_vl",)
    examples = ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct")
    mrope = True
    picture_defaults: ClassVar[Mapping[str, Any]] = {
        "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    film_defaults: ClassVar[Mapping[str, Any]] = {
        **picture_defaults,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        "max_video_tokens": 128000,
    }

    def tower(self, kind: str) -> nn.Module:
        return self.inner.visual

    def stack(self, kind: str) -> nn.Module:
        return self.inner.visual

    def blocks(self, kind: str) -> Sequence[nn.Module]:
        return list(self.inner.visual.blocks)

    def film_size(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        settings = self.film_settings()
        factor = settings["patch_size"] * settings["merge_size"]
        low, high = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
        if settings.get("cap_pixels_per_frame"):
            total = int(settings["max_video_tokens"] * factor * factor * 0.9)
            share = total * settings["temporal_patch_size"] // frames
            high = max(min(high, share), int(low * 1.05))
        return pixels.smart_size(size, factor, low, high)

    def film_text(self, views: Views, token: str) -> str:
        return token * (len(views) * views.grid[0] * views.grid[1])

    # ---- the tower ---------------------------------------------------------------------------

    def encode(
        self,
        views: Sequence[Views],
        needs: Sequence[Need] = (),
        merge: Callable[[int, int], TowerMerge] | None = None,
    ) -> list[FeatureMap]:
        """Run tower and merger once: features (T, h, w, D), which need no further projection."""
        run = getattr(self.inner, f"get_{views[0].kind}_features")
        out = run(**self.batch_inputs(views), return_dict=True)
        stacks = getattr(out, "deepstack_features", None) or ()
        maps = []
        for place, item in enumerate(views):
            shape = (len(item), *item.grid)
            extra = tuple(stack[place].unflatten(0, shape) for stack in stacks)
            maps.append(
                feature_map(out.pooler_output[place].unflatten(0, shape), item, extra=extra)
            )
        return maps

    def project(self, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        return list(maps)

    # ---- positions ---------------------------------------------------------------------------

    def ticks(self, views: Views) -> Tensor:
        """The temporal coordinate of each view, (T,)."""
        return torch.arange(len(views))

    def coords(self, features: FeatureMap) -> Tensor:
        device = features.features.device
        _, rows, columns = features.features.shape[:3]
        axes = (
            self.ticks(features.views).to(device),
            torch.arange(rows, device=device),
            torch.arange(columns, device=device),
        )
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)

    def positions(self, runs: Sequence[VisualRun | int]) -> Tensor:
        """(3, L): text counts on in all three axes; a visual run spreads from where it starts by
        its coordinates, and the text behind it goes on after its longer side.

        Coordinates that say nothing (all zero, as from a packing that has no grid) count on like
        text.
        """
        device = next((run.coords.device for run in runs if not isinstance(run, int)), None)
        start = torch.zeros((), dtype=torch.long, device=device)
        parts = []
        for run in runs:
            length = run if isinstance(run, int) else len(run.coords)
            axes = torch.arange(length, device=device).repeat(3, 1)
            if not isinstance(run, int) and length:
                # All on the device: asking for a number here would wait for the tower.
                axes = torch.where(run.coords.any(), run.coords.long().mT, axes)
                axes[0] -= axes[0].min()
            parts.append(axes + start)
            start = start + (axes[1:].max() + 1 if length else 0)
        return torch.cat(parts, 1)


def _with_limits(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings with the older `min_pixels` and `max_pixels` put in `size`."""
    size = dict(settings["size"])
    for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if settings.get(name) is not None:
            size[edge] = settings[name]
    return {**settings, "size": size}


def with_input(views: Views, name: str, value: Tensor) -> Views:
    """Views with one input more."""
    return replace(views, inputs={**views.inputs, name: value})
