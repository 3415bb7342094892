"""FastVLM: one square view a picture through FastViTHD, a convolutional tower with few tokens.

The tower is no stack of plain blocks, so it supplies no attention and nothing merges inside it.
A film is a row of frames in one place of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sparsight.vlm.families.llava import Llava


class FastVlm(Llava):
    name = "fast-vlm"
    label = "FastVLM"
    model_types = ("fast_vlm",)
    examples = ("KamilaMila/FastVLM-0.5B", "KamilaMila/FastVLM-7B")
    default_frames = "uniform:8"
    pads = False

    def stack(self, kind: str) -> nn.Module | None:
        return None

    def blocks(self, kind: str) -> Sequence[nn.Module]:
        return []

    def has_cls(self, kind: str) -> bool:
        return False

    def grid(self, side: int) -> tuple[int, int]:
        patches = side // int(self.settings.processor.get("patch_size") or 64)
        return (patches, patches)

    def tower_features(self, kind: str, pixels: Tensor) -> Tensor:
        out = self.tower(kind)(pixels.to(self.model.dtype), return_dict=True)
        return out.last_hidden_state.flatten(2).permute(0, 2, 1)
