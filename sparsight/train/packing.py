"""Several samples in one row, each of which sees only itself. B rows, L tokens, n samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.prompt import Prompt


def rows_of(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Put samples of these lengths into few rows of at most `most` tokens: the longest first,
    each into the first row with room. Returns the samples of each row, in their order."""
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        row = next((i for i, left in enumerate(room) if left >= lengths[place]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(most)
        rows[row].append(place)
        room[row] -= lengths[place]
    return [sorted(row) for row in rows]


def join(prompts: Sequence[Prompt]) -> Prompt:
    """Prompts one behind the other as one row; positions start anew with each."""
    starts = torch.tensor([0, *[len(prompt) for prompt in prompts]]).cumsum(0).tolist()
    media = torch.tensor([0, *[1 + int(p.medium.max()) for p in prompts]]).cumsum(0).tolist()
    return Prompt(
        embeds=torch.cat([prompt.embeds for prompt in prompts]),
        ids=torch.cat([prompt.ids for prompt in prompts]),
        positions=torch.cat([prompt.positions for prompt in prompts], 1),
        medium=torch.cat(
            [
                torch.where(prompt.visual, prompt.medium + first, -1)
                for prompt, first in zip(prompts, media, strict=False)
            ]
        ),
        prunable=torch.cat([prompt.prunable for prompt in prompts]),
        index=torch.cat([prompt.index for prompt in prompts]),
        length=sum(prompt.length for prompt in prompts),
        spans=tuple(
            replace(span, start=span.start + start, stop=span.stop + start)
            for prompt, start in zip(prompts, starts, strict=False)
            for span in prompt.spans
        ),
        extra=tuple(
            torch.cat(parts)
            for parts in zip(*[prompt.extra for prompt in prompts if prompt.extra], strict=True)
        ),
    )


def segments(lengths: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Which sample each token belongs to, (B, L), rows padded on the left with -1.

    lengths: of the samples in each row.
    """
    longest = max(sum(row) for row in lengths)
    out = torch.full((len(lengths), longest), -1)
    for place, row in enumerate(lengths):
        tokens = torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row))
        out[place, longest - len(tokens) :] = tokens
    return out.to(device)


def packed_mask(segment: Tensor, attention: str | None, dtype: torch.dtype) -> Tensor:
    """The attention mask (B, 1, L, L) in which each token sees its own sample up to itself.

    Padding sees padding, so that no row is empty. `attention` is the decoder's implementation:
    sdpa takes True for what is seen, eager what is added to the scores. Raises `UserError` for
    others, which take no such mask.
    """
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    seen = ((segment[:, :, None] == segment[:, None]) & causal)[:, None]
    if attention == "sdpa":
        return seen
    if attention == "eager":
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    raise UserError(f"packing needs sdpa or eager attention, and the model has {attention}")
