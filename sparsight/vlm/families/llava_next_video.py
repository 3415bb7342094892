"""LLaVA-NeXT-Video: pictures as in LLaVA-NeXT, films pooled by the model before the projector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F

from sparsight.core.tokens import FeatureMap, Views
from sparsight.vlm.families import pixels
from sparsight.vlm.families.llava_next import LlavaNext


class LlavaNextVideo(LlavaNext):
    name = "llava-next-video"
    label = "LLaVA-NeXT-Video"
    model_types = ("llava_next_video",)
    examples = ("llava-hf/LLaVA-NeXT-Video-7B-hf", "llava-hf/LLaVA-NeXT-Video-7B-DPO-hf")
    default_frames = "uniform:8"
    film_kind = "video"

    @property
    def stride(self) -> int:
        """Rows and columns of a film's patches that become one token."""
        return int(self.config.spatial_pool_stride)

    def count(self, views: Views) -> int:
        if views.kind == "image":
            return super().count(views)
        return len(views) * (views.grid[0] // self.stride) * (views.grid[1] // self.stride)

    def project(self, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        if maps[0].views.kind == "video":
            maps = [self._pooled(item) for item in maps]
        return super().project(maps)

    def _pooled(self, whole: FeatureMap) -> FeatureMap:
        """The model's own pooling; what is known of the patches is averaged alike."""
        stride = self.stride

        def averaged(x: Tensor) -> Tensor:  # (V, h, w, S)
            return F.avg_pool2d(x.permute(0, 3, 1, 2), stride).permute(0, 2, 3, 1)

        weight = averaged(whole.weight[..., None])[..., 0]
        features = self.inner.vision_resampler(whole.features.flatten(1, 2))
        return replace(
            whole,
            features=features.unflatten(1, tuple(weight.shape[1:])),
            box=pixels.widened(averaged(whole.box), (stride, stride)),
            time=averaged(whole.time[..., None])[..., 0],
            weight=weight,
            signals={name: averaged(value) for name, value in whole.signals.items()},
        )
