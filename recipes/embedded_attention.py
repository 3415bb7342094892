"""Attention of packed questions: each sees what all share and itself, and nothing is computed of
the questions it does not see.

Shape suffixes: B samples, H heads, S shared tokens, L tokens of all questions, Q questions of a
sample, T tokens of a question, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

NAME = "packed_questions"
_FEW = 400  # shared tokens up to which torch's own kernel takes longer than two products (CPU)


@dataclass(frozen=True)
class Packing:
    """Rows of `shared` tokens and, behind them, questions: `places` (B, Q, T) says where among
    the L tokens of its row each token of a question stands; L where there is none."""

    shared: int
    places: Tensor

    @classmethod
    def of(cls, shared: int, turn: Tensor, position: Tensor) -> Packing:
        """From the question that each token belongs to, -1 for none, and its place in it (B, L)."""
        samples, length = turn.shape
        questions, longest = int(turn.max()) + 1, int(position.max()) + 1
        places = turn.new_full((samples, questions * longest + 1), length)
        slots = torch.where(turn >= 0, turn * longest + position, questions * longest)
        places.scatter_(1, slots, torch.arange(length, device=turn.device).expand_as(turn))
        return cls(shared, places[:, :-1].unflatten(1, (questions, longest)))

    def gather(self, values: Tensor, fill: int) -> Tensor:
        """Of each token of the questions (B, L) -> of the tokens of each question (B, Q, T)."""
        found = F.pad(values, (0, 1), value=fill).gather(1, self.places.flatten(1))
        return found.view_as(self.places)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """While it lasts the model reads an attention mask that is a `Packing`."""
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Packing,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Queries (B, H, S + L, D), keys and values with as many heads or fewer -> (B, S + L, H, D),
    and how the questions' tokens look at what all share (B, H, Q, T, S)."""
    shared, places = attention_mask.shared, attention_mask.places
    seen = _see(*(x[:, :, :shared] for x in (query, key, value)), scaling)
    asked, looks = _ask(
        *(x[:, :, shared:] for x in (query, key, value)),
        *(x[:, :, :shared] for x in (key, value)),
        places,
        scaling,
    )
    return torch.cat((seen, asked), 2).transpose(1, 2), looks


def _see(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """What the shared tokens read of one another, causally, (B, H, S, D)."""
    heads, count = query.shape[1:3]
    groups = key.shape[1]
    if count > _FEW:
        return F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=heads != groups
        )
    together = query.unflatten(1, (groups, heads // groups)).flatten(2, 3) * scaling
    later = torch.ones(count, count, dtype=torch.bool, device=query.device).triu(1)
    scores = together @ key.transpose(2, 3)
    scores = scores.masked_fill(later.repeat(heads // groups, 1), float("-inf"))
    return (scores.softmax(-1) @ value).view_as(query)


def _ask(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shared_key: Tensor,
    shared_value: Tensor,
    places: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """What the questions' tokens read, (B, H, L, D), and their weights on the shared ones."""
    heads, groups = query.shape[1], key.shape[1]
    _, questions, longest = places.shape
    flat = places.flatten(1)[:, None, :, None]

    def by_question(x: Tensor) -> Tensor:
        """(B, heads, L, D) -> (B, heads, Q * T, D)."""
        return F.pad(x, (0, 0, 0, 1)).gather(2, flat.expand(-1, x.shape[1], -1, x.shape[3]))

    def grouped(x: Tensor) -> Tensor:
        """(B, H, Q * T, D) -> (B, groups, Q, heads of a group * T, D)."""
        parts = x.unflatten(2, (questions, longest)).unflatten(1, (groups, heads // groups))
        return parts.transpose(2, 3).flatten(3, 4)

    own_query = grouped(by_question(query) * scaling)
    own_key, own_value = (
        by_question(x).unflatten(2, (questions, longest)) for x in (key, value)
    )  # (B, groups, Q, T, D)
    to_shared = own_query.flatten(2, 3) @ shared_key.transpose(2, 3)
    to_own = own_query @ own_key.transpose(3, 4)
    later = torch.ones(longest, longest, dtype=torch.bool, device=query.device).triu(1)
    to_own = to_own.masked_fill(later.repeat(heads // groups, 1), float("-inf"))
    weights = torch.cat((to_shared.unflatten(2, to_own.shape[2:4]), to_own), -1).softmax(-1)
    count = shared_key.shape[2]
    looks = weights[..., :count]
    read = weights[..., count:] @ own_value
    read = read + (looks.flatten(2, 3) @ shared_value).view_as(read)

    def by_head(x: Tensor) -> Tensor:
        """(B, groups, Q, heads of a group * T, any) -> (B, H, Q, T, any)."""
        return x.unflatten(3, (heads // groups, longest)).transpose(2, 3).flatten(1, 2)

    out = query.new_zeros(query.shape[0], heads, query.shape[2] + 1, query.shape[3])
    index = flat.expand(-1, heads, -1, query.shape[3])
    out = out.scatter(2, index, by_head(read).flatten(2, 3).to(out.dtype))[:, :, :-1]
    return out, by_head(looks)


AttentionInterface.register(NAME, attend)
