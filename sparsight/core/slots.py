"""The slots a system can fill, as protocols. A system fills every slot whose method it has.

Nothing flows backwards: select -> tile -> encode -> connect -> reduce -> inside. A system may
also say `needs() -> tuple[Need, ...]`: what it wants computed upstream; a family that cannot
supply a need is refused before any work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.tokens import FeatureMap, VisualTokens


@dataclass(frozen=True)
class Need:
    """Something a system wants from upstream.

    name   one of `NEEDS`
    block  the tower block it is read from: 0-based from the first, negative from the block that
           produces the features (-1 is that block itself), "last" the tower's last.
    """

    name: str
    block: int | Literal["last"] = -1

    @property
    def key(self) -> str:
        """The name of its signal: "keys", or "keys@0" where it is not the features' block."""
        return self.name if self.block == -1 else f"{self.name}@{self.block}"


#: Every need a system can declare, and what it means.
NEEDS = {
    "cls_attention": "attention of the CLS token to each patch, (V, h, w, heads)",
    "cls_attention_joined": "attention of CLS to each patch, heads taken as one, (V, h, w, 1)",
    "received_attention": "mean attention each patch receives from all tokens, (V, h, w, heads)",
    "keys": "keys of each patch, heads side by side, (V, h, w, heads * a)",
    "features": "the tower's features of each patch, before the projector, (V, h, w, C)",
    "cls_feature": "the feature of each view's CLS token, at every patch, (V, h, w, C)",
    "square_views": "film frames that reach the tower as square (V, 3, S, S) pixels",
    "tower_blocks": "a tower of plain blocks (attention, MLP) whose tokens may be merged inside",
    "film": "films",
}


@dataclass(frozen=True)
class Request:
    """What a system may know about the request: the question, the budget's seed.

    `text` is the question (all text of the last user turn), `text_embeds` (L, D) its token
    embeddings, `media` how many media the request holds.
    """

    text: str
    text_embeds: Tensor
    media: int = 1


@runtime_checkable
class Selects(Protocol):
    """Slot "select": choose the frames of a film."""

    def select(self, clip: Clip) -> list[int]:
        """Frame indices, ascending, duplicates allowed."""
        ...


@runtime_checkable
class Tiles(Protocol):
    """Slot "tile": make further views from the frames of a film."""

    def tile(self, pixels: Tensor) -> Tensor:
        """Preprocessed frames (T, 3, S, S) -> further views (K, 3, S, S)."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Slot "encode": merge tokens inside the vision tower."""

    def merging(self, depth: int, tokens: int) -> Any:
        """A `sparsight.modules.towers.TowerMerge` for `depth` blocks of `tokens` patches."""
        ...


@runtime_checkable
class Connects(Protocol):
    """Slot "connect": pack projected features into the sequence, in place of the family's way."""

    def connect(self, features: FeatureMap) -> VisualTokens: ...


@runtime_checkable
class Reduces(Protocol):
    """Slot "reduce": shorten the visual tokens before the LLM."""

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens: ...


@runtime_checkable
class Inside(Protocol):
    """Slot "inside": drop or merge visual tokens between the layers of the LLM."""

    def edits(self, depth: int) -> Sequence[Any]:
        """`sparsight.llm.edits.LayerEdit`s for an LLM of `depth` layers."""
        ...


#: Slot name -> the method that fills it, in the order the data passes them.
SLOTS = {
    "select": "select",
    "tile": "tile",
    "encode": "merging",
    "connect": "connect",
    "reduce": "reduce",
    "inside": "edits",
}


def slots_of(system: Any) -> tuple[str, ...]:
    """The slots a system (class or instance) fills, in order."""
    return tuple(slot for slot, method in SLOTS.items() if callable(getattr(system, method, None)))


def needs_of(system: Any) -> tuple[Need, ...]:
    """What a system instance needs from upstream."""
    needs = getattr(system, "needs", None)
    found = tuple(needs()) if needs is not None else ()
    assert all(need.name in NEEDS for need in found), f"undeclared need in {found}"
    return found
