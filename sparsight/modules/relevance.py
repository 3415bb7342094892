"""A small convolutional network that tells tokens' relevance from the first layer's attention.

Shapes: B prompts, N visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from sparsight.core.errors import UserError


class RelevancePredictor(nn.Module):
    """Attention (B, N) -> relevance (B, N), as logits of a distribution over the tokens.

    Depthwise separable convolutions along the sequence and a head of one channel; any N will do.
    Attention is divided by its mean first, since its size falls with N. Number and channels of the
    layers are those of arXiv:2506.01097; the kernel, the activation, the head and that division
    are assumptions.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128, 256, 512), kernel: int = 7) -> None:
        super().__init__()
        self.channels, self.kernel = tuple(channels), kernel
        layers: list[nn.Module] = []
        for before, after in zip((1, *channels), channels, strict=False):
            layers += [
                nn.Conv1d(before, before, kernel, padding="same", groups=before),
                nn.Conv1d(before, after, 1),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv1d(self.channels[-1], 1, 1))

    def forward(self, attention: Tensor) -> Tensor:
        x = attention.float()
        x = x / x.mean(-1, keepdim=True).clamp_min(1e-12)
        return self.layers(x[:, None])[:, 0]

    def save(self, path: Path) -> None:
        """Write the weights to a safetensors file that `load` reads."""
        sizes = {"channels": ",".join(map(str, self.channels)), "kernel": str(self.kernel)}
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        safetensors.torch.save_file(state, path, sizes)

    @classmethod
    def load(cls, path: str | Path) -> RelevancePredictor:
        """Read a predictor, in evaluation mode. Raises `UserError` for a file that is none."""
        try:
            with safetensors.safe_open(path, "pt") as file:
                sizes = file.metadata() or {}
            channels = [int(size) for size in sizes["channels"].split(",")]
            made = cls(channels, int(sizes["kernel"]))
            made.load_state_dict(safetensors.torch.load_file(path))
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such predictor; train one by a recipe") from None
        except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} is not the file of a relevance predictor: {reason}") from None
        return made.eval().requires_grad_(False)
