"""What stands where in the sequence a decoder reads.

Shape suffixes: B batch, L sequence, P position axes (1, or 3 for M-RoPE).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The sequence of a batch, token by token, at one layer of the decoder.

    visual     (B, L) bool  tokens of a picture or film
    prunable   (B, L) bool  the visual tokens that may be dropped (newlines and separators may not)
    padding    (B, L) bool  positions that hold no token; rows are padded on the left
    index      (B, L) long  where the token stood in the original, unpruned sequence
    media      (B, L) long  which medium of its row the token belongs to; -1 is text
    positions  (P, B, L)    the positions the decoder rotates with, once it has computed them
    """

    visual: Tensor
    prunable: Tensor
    padding: Tensor
    index: Tensor
    media: Tensor
    positions: Tensor | None = None

    @classmethod
    def of(
        cls,
        attention_mask: Tensor,
        visual: Tensor,
        prunable: Tensor | None = None,
        media: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Layout:
        """A layout from the (B, L) mask given to the decoder and the (B, L) visual tokens.

        All visual tokens are prunable, of medium 0, and `index` counts columns, unless given.
        """
        visual = visual.bool()
        padding = ~attention_mask.bool()
        if media is None:
            media = torch.where(visual, 0, -1)
        if index is None:
            index = torch.arange(visual.shape[1], device=visual.device).expand(visual.shape)
        return cls(visual, visual if prunable is None else prunable.bool(), padding, index, media)

    def __len__(self) -> int:
        return self.visual.shape[1]

    @property
    def batch(self) -> int:
        return self.visual.shape[0]

    def take(self, keep: Tensor, padding: Tensor | None = None) -> Layout:
        """The shorter layout of the tokens at `keep` (B, L') long, row by row.

        `padding` (B, L') bool marks the slots that hold no token in rows shorter than the longest;
        what `keep` names there is ignored.
        """
        gone = self.padding.gather(1, keep)
        if padding is not None:
            gone = gone | padding
        positions = self.positions
        if positions is not None:
            positions = positions.gather(2, keep.expand(positions.shape[0], -1, -1))
        return Layout(
            visual=self.visual.gather(1, keep) & ~gone,
            prunable=self.prunable.gather(1, keep) & ~gone,
            padding=gone,
            index=self.index.gather(1, keep).masked_fill(gone, -1),
            media=self.media.gather(1, keep).masked_fill(gone, -1),
            positions=positions,
        )

    def tail(self, length: int) -> Layout:
        """The last `length` columns: what is new when a cache already holds the rest."""
        cut = slice(len(self) - length, None)
        positions = self.positions
        return replace(
            self,
            visual=self.visual[:, cut],
            prunable=self.prunable[:, cut],
            padding=self.padding[:, cut],
            index=self.index[:, cut],
            media=self.media[:, cut],
            positions=None if positions is None else positions[..., cut],
        )
