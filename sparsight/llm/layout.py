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
    group      (B, L) long  the part of its medium that a visual token belongs to; -1 is text
    positions  (P, B, L)    the positions the decoder rotates with, once it has computed them
    marks      (B, L)       what an edit noted of each token before the first layer, if one did
    start      (B, M) long  prunable tokens each medium had before anything was dropped inside
    """

    visual: Tensor
    prunable: Tensor
    padding: Tensor
    index: Tensor
    media: Tensor
    group: Tensor
    positions: Tensor | None = None
    marks: Tensor | None = None
    start: Tensor | None = None

    @property
    def prunable_at_start(self) -> Tensor:
        """(B, M) prunable tokens of each medium before anything was dropped inside the decoder.

        M is at least the number of media; a sum over it counts a row's tokens.
        """
        if self.start is not None:
            return self.start
        count = torch.zeros_like(self.media)
        return count.scatter_add(1, self.media.clamp_min(0), self.prunable.long())

    @classmethod
    def of(
        cls,
        attention_mask: Tensor,
        visual: Tensor,
        prunable: Tensor | None = None,
        media: Tensor | None = None,
        index: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Layout:
        """A layout from the (B, L) mask given to the decoder and the (B, L) visual tokens.

        All visual tokens are prunable, of medium 0, each medium is one group, and `index` counts
        columns, unless given.
        """
        visual = visual.bool()
        padding = ~attention_mask.bool()
        if media is None:
            media = torch.where(visual, 0, -1)
        if index is None:
            index = torch.arange(visual.shape[1], device=visual.device).expand(visual.shape)
        return cls(
            visual=visual,
            prunable=visual if prunable is None else prunable.bool(),
            padding=padding,
            index=index,
            media=media,
            group=torch.where(visual, 0, -1) if group is None else group,
        )

    def __len__(self) -> int:
        return self.visual.shape[1]

    @property
    def batch(self) -> int:
        return self.visual.shape[0]

    @property
    def words(self) -> Tensor:
        """(B, L) bool, the text after the last visual token: the question and what follows it."""
        after = self.visual.flip(1).cumsum(1).flip(1) == 0
        return after & ~self.padding

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
            group=self.group.gather(1, keep).masked_fill(gone, -1),
            positions=positions,
            marks=None if self.marks is None else self.marks.gather(1, keep),
            start=self.prunable_at_start,
        )

    def extended(self, count: int) -> Layout:
        """The layout with `count` more tokens of text behind it."""
        if count <= 0:
            return self

        def more(rows: Tensor, value: int | bool) -> Tensor:
            return torch.cat([rows, rows.new_full((len(rows), count), value)], 1)

        return Layout(
            visual=more(self.visual, False),
            prunable=more(self.prunable, False),
            padding=more(self.padding, False),
            index=more(self.index, -1),
            media=more(self.media, -1),
            group=more(self.group, -1),
            start=self.prunable_at_start,
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
            group=self.group[:, cut],
            positions=None if positions is None else positions[..., cut],
            marks=None if self.marks is None else self.marks[:, cut],
            start=None,  # what a cache holds is no longer dropped: the new tokens alone count
        )
