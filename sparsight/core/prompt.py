"""The prompt as the LLM is given it. L tokens, D width."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A stretch of one kind in the sequence: "text", "image" or "video"; `medium` counts from 0."""

    kind: str
    start: int
    stop: int
    medium: int | None = None


@dataclass(frozen=True)
class Prompt:
    """One prompt, spliced: text embeddings with the visual tokens in their places.

    embeds     (L, D)
    ids        (L,)    token ids; the placeholder's id at visual positions
    positions  (1, L), or (3, L) with M-RoPE
    medium     (L,)    which medium a token belongs to, -1 for text
    prunable   (L,)    visual tokens that may be dropped inside the LLM
    index      (L,)    place of each token in the unreduced prompt
    length     tokens of the unreduced prompt
    group      (L,)    the part of its medium that a visual token belongs to, -1 for text; None: one
    extra      DeepStack embeddings of the visual positions in order, each (n, D)
    """

    embeds: Tensor
    ids: Tensor
    positions: Tensor
    medium: Tensor
    prunable: Tensor
    index: Tensor
    length: int
    spans: tuple[Span, ...]
    extra: tuple[Tensor, ...] = ()
    group: Tensor | None = None

    def __len__(self) -> int:
        return self.embeds.shape[0]

    @property
    def visual(self) -> Tensor:
        """(L,) bool, True where a visual token stands."""
        return self.medium >= 0
