"""What an edit between the layers of a decoder is, and what it says put into tensors.

Shape suffixes: B batch, L sequence, D width, H heads, R rows, P position axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.llm.attention import Call, Rows
from sparsight.llm.layout import Layout

#: Where the kept tokens of an edit stand from its layer on:
#:   "keep"      at their positions (gaps stay)
#:   "renumber"  counted on without gaps from the row's first token
#:   "average"   at the mean position of the tokens merged into them (`Edit.group`)
#:   (P, B, L) tensor: at these positions, which may be fractions.
Positions = Literal["keep", "renumber", "average"] | Tensor


@dataclass(frozen=True)
class Edit:
    """What an edit does to the sequence it was shown.

    keep       which tokens stay: a (B, L) bool mask, (B, K) long columns, or one long tensor of
               columns a row (rows may keep different counts). Order is kept whatever is given.
    hidden     (B, L, D) what the kept columns hold from now on (merging); None leaves them
    positions  where the kept tokens stand; decoding goes on after the unpruned length in any case
    group      (B, L) long, the kept column each token was merged into, -1 for none
    source     (B, L) long, where `hidden` was re-ordered: the column whose token each column holds
               from now on. Prunable columns change places among themselves; None: nothing moves
    """

    keep: Tensor | Sequence[Tensor]
    hidden: Tensor | None = None
    positions: Positions = "keep"
    group: Tensor | None = None
    source: Tensor | None = None


class LayerEdit(Protocol):
    """An edit of the sequence before decoder layer `layer` (1 or later), at prefill.

    What it may have: `heads` says how the heads of its scores are put together (see
    `attention.probe`); `ahead = True` asks for the rows layer `layer` itself would compute on the
    sequence it is about to be given, instead of those of the layer before; `evicts = True` takes
    what it drops out of the cache of the layers before it too (layer 0, by whose length the model
    counts its positions, keeps it, but no later token sees it there); and `mark(embeds, layout)`
    returns (B, L) marks from the embeddings that layer 0 is given, which the layouts of all edits
    then carry (only the first edit that has it is asked).
    """

    @property
    def layer(self) -> int: ...

    def rows(self, layout: Layout) -> Rows | None:
        """The attention rows of layer `layer - 1` it needs, as `attention.probe` takes them.

        Asked once with the whole layout when the call is opened (None: never any), and then with
        the layout at the layer.
        """
        ...

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """Edit the (B, L, D) hidden states; `scores` (B, H, R, L) are the rows it asked for."""
        ...


class AttentionRule(Protocol):
    """Another way of attention in some layers, given among the edits."""

    @property
    def layers(self) -> Sequence[int]: ...

    def attend(self, layer: int, call: Call, keys: Layout, new: int) -> Tensor | None:
        """The attention's output (B, L, H, A), or None for the layer's own.

        `keys` is the layout of the keys that the layer attends to (tokens since the prompt are
        text); the last `new` of them are the queries.
        """
        ...


def check_layers(system: str, layers: Sequence[int], depth: int) -> Sequence[int]:
    """The layers a system edits before, in an LLM of `depth` layers; refuses wrong ones."""
    for before, layer in zip((0, *layers), layers, strict=False):
        if not before < layer < depth:
            given = ", ".join(map(str, layers))
            raise UserError(
                f"{system}: layers {given} must rise and lie within 1 to {depth - 1}, the layers "
                f"after the first of this LLM: set layers"
            )
    return layers


def check_layer(system: str, layer: int, depth: int) -> int:
    """The layer a system edits before, in an LLM of `depth` layers; refuses a wrong one."""
    if not 0 < layer < depth:
        raise UserError(
            f"{system}: layer {layer} must lie within 1 to {depth - 1}, the layers after the first "
            "of this LLM: set layer"
        )
    return layer


def keep_mask(keep: Tensor | Sequence[Tensor], layout: Layout) -> Tensor:
    """Any form of `Edit.keep` as a (B, L) bool mask without padding."""
    mask = torch.zeros_like(layout.padding)
    if not isinstance(keep, Tensor):
        assert len(keep) == layout.batch, "one list of columns a row"
        for row, columns in zip(mask, keep, strict=True):
            row[columns] = True
    elif keep.dtype == torch.bool:
        mask |= keep
    else:
        mask.scatter_(1, keep, True)
    return mask & ~layout.padding


def new_positions(edit: Edit, layout: Layout, shorter: Layout, take: Tensor) -> Tensor | None:
    """The (P, B, L') positions of the kept tokens, or None where they keep their own."""
    policy, positions = edit.positions, layout.positions
    if isinstance(policy, Tensor):
        return policy.gather(2, take.expand(len(policy), -1, -1))
    if policy == "keep":
        return None
    if positions is None or shorter.positions is None:
        raise UserError(f"positions={policy!r} needs a decoder with one rotary embedding")
    if policy == "renumber":
        rank = (~shorter.padding).cumsum(1) - 1
        last = torch.iinfo(shorter.positions.dtype).max
        first = shorter.positions.masked_fill(shorter.padding, last).amin(-1, keepdim=True)
        return first + rank.clamp_min(0)
    assert policy == "average", f"unknown positions {policy!r}"
    assert edit.group is not None, "averages need Edit.group"
    axes = len(positions)
    # Tokens of no group are added to a column past the end, which is cut off.
    length = len(layout)
    group = torch.where(edit.group < 0, length, edit.group).expand(axes, -1, -1)
    zeros = positions.new_zeros((axes, layout.batch, length + 1), dtype=torch.float32)
    total = zeros.scatter_add(2, group, positions.float())[..., :length]
    count = zeros.scatter_add(2, group, torch.ones_like(group, dtype=torch.float32))[..., :length]
    mean = torch.where(count > 0, total / count.clamp_min(1), positions.float())
    return mean.gather(2, take.expand(axes, -1, -1))
