"""The one splice routine: text ids and packed visual tokens -> prompt embeddings.

Placeholders, features and the reported counts must agree, or it raises with the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.prompt import Prompt, Span
from sparsight.core.tokens import VisualTokens
from sparsight.vlm.families.base import Family, VisualRun


@dataclass(frozen=True)
class Medium:
    """One medium of a prompt: its packed tokens, before and after reduction.

    `slots` is how many placeholders the family writes for it, which differs from `full.total`
    only where a system packs in its own way. `second` stands for it in a second prompt, where a
    system decodes with two.
    """

    kind: str
    full: VisualTokens
    kept: VisualTokens
    slots: int
    second: VisualTokens | None = None


@dataclass(frozen=True)
class _Run:
    """A stretch of placeholders: tokens `start` to `stop` of the medium's packing."""

    medium: int
    start: int
    stop: int


def splice(
    family: Family,
    ids: Sequence[int],
    media: Sequence[Medium],
    embed: Callable[[Tensor], Tensor],
) -> Prompt:
    """Build a prompt.

    Args:
        family: says which ids are placeholders and how positions count.
        ids: the unreduced prompt, every placeholder written out.
        media: the media in the order of their placeholders, kind by kind.
        embed: (n,) ids -> (n, D) embeddings.
    """
    pieces = _pieces(family, ids, media)
    device = media[0].full.embeds.device if media else None
    words = [i for piece in pieces if isinstance(piece, list) for i in piece]
    text = torch.tensor(words, dtype=torch.long)
    text_embeds = embed(text.to(device) if device is not None else text)
    device = text_embeds.device
    kept_of = [item.kept.index for item in media]

    embeds: list[Tensor] = []
    all_ids: list[Tensor] = []
    medium: list[Tensor] = []
    prunable: list[Tensor] = []
    index: list[Tensor] = []
    group: list[Tensor] = []
    extra: list[list[Tensor]] = []
    full_runs: list[VisualRun | int] = []
    kept_runs: list[VisualRun | int] = []
    spans: list[Span] = []
    at, text_at, length = 0, 0, 0  # in the spliced prompt, in the text, in the unreduced prompt
    for piece in pieces:
        if isinstance(piece, list):
            count = full = len(piece)
            embeds.append(text_embeds[text_at : text_at + count])
            all_ids.append(text[text_at : text_at + count].to(device))
            text_at += count
            medium.append(torch.full((count,), -1, device=device))
            prunable.append(torch.zeros(count, dtype=torch.bool, device=device))
            index.append(torch.arange(length, length + count, device=device))
            group.append(torch.full((count,), -1, device=device))
            full_runs.append(count)
            kept_runs.append(count)
            spans.append(Span("text", at, at + count))
        else:
            item = media[piece.medium]
            rows = (kept_of[piece.medium] >= piece.start) & (kept_of[piece.medium] < piece.stop)
            kept = item.kept.embeds[rows]
            count, full = len(kept), piece.stop - piece.start
            embeds.append(kept.to(text_embeds.dtype))
            all_ids.append(torch.full((count,), family.placeholder(item.kind), device=device))
            medium.append(torch.full((count,), piece.medium, device=device))
            prunable.append(item.kept.prunable[rows])
            index.append(length + item.kept.index[rows] - piece.start)
            parts = item.kept.view if item.kept.group is None else item.kept.group
            group.append(parts[rows])
            extra.append([more[rows] for more in item.kept.extra])
            part = slice(piece.start, piece.stop)
            full_runs.append(VisualRun(item.full.coords[part], item.full.time[part], item.kind))
            kept_runs.append(VisualRun(item.kept.coords[rows], item.kept.time[rows], item.kind))
            spans.append(Span(item.kind, at, at + count, piece.medium))
        at += count
        length += full
    order = torch.cat(index)
    if any(item.kept.positions == "renumber" for item in media):
        positions = family.positions(kept_runs).to(device)
    else:
        positions = family.positions(full_runs).to(device)[:, order]
    spliced = sum(len(item.kept) for item in media)
    visual = int((torch.cat(medium) >= 0).sum())
    if visual != spliced:
        raise ValueError(f"{spliced} visual tokens were packed, but {visual} stand in the prompt")
    return Prompt(
        embeds=torch.cat(embeds),
        ids=torch.cat(all_ids),
        positions=positions,
        medium=torch.cat(medium),
        prunable=torch.cat(prunable),
        index=order,
        length=length,
        spans=tuple(spans),
        extra=tuple(torch.cat(parts) for parts in zip(*extra, strict=True)) if extra else (),
        group=torch.cat(group),
    )


def _pieces(family: Family, ids: Sequence[int], media: Sequence[Medium]) -> list[list[int] | _Run]:
    """Cut the ids into text stretches and runs of placeholders, matched with the media."""
    kinds = {family.placeholder(item.kind): item.kind for item in media}
    queues = {
        mark: [place for place, item in enumerate(media) if family.placeholder(item.kind) == mark]
        for mark in kinds
    }
    for mark, places in queues.items():
        found, wanted = list(ids).count(mark), sum(media[place].slots for place in places)
        if found != wanted:
            raise UserError(
                f"the prompt holds {found} {kinds[mark]} placeholders, but its {len(places)} "
                f"media have {wanted} visual tokens: the chat template must name each medium once"
            )
    used = [0] * len(media)  # placeholders consumed of each medium
    pieces: list[list[int] | _Run] = []
    at = 0
    while at < len(ids):
        start = at
        if ids[at] not in queues:
            while at < len(ids) and ids[at] not in queues:
                at += 1
            pieces.append(list(ids[start:at]))
            continue
        mark = ids[at]
        while at < len(ids) and ids[at] == mark:
            at += 1
        left = at - start
        while left:  # a run may hold the placeholders of several media back to back
            place = next(p for p in queues[mark] if used[p] < media[p].slots)
            item = media[place]
            take = min(left, item.slots - used[place])
            first = _scaled(used[place], item)
            used[place] += take
            pieces.append(_Run(place, first, _scaled(used[place], item)))
            left -= take
    return pieces


def _scaled(slot: int, item: Medium) -> int:
    """The first token of the packing that belongs behind `slot` of the family's placeholders."""
    full = item.full
    each, rest = divmod(item.slots, len(full.views))
    if full.views.share is not None and slot < item.slots and not rest and not slot % each:
        # Frames of different sizes: each stands where the family wrote its own placeholders.
        return int((full.view.cummax(0).values < slot // each).sum())
    return -(-slot * full.total // item.slots)


@dataclass(frozen=True)
class Batch:
    """Prompts side by side, padded on the left to the longest: B rows of L tokens."""

    embeds: Tensor  # (B, L, D)
    mask: Tensor  # (B, L) long, 0 at padding
    positions: Tensor  # (B, L), or (3, B, L) with M-RoPE
    medium: Tensor  # (B, L), -1 for text and padding
    prunable: Tensor  # (B, L)
    index: Tensor  # (B, L)
    group: Tensor  # (B, L), -1 for text and padding
    extra: tuple[Tensor, ...]  # DeepStack: (n, D) over all rows' visual positions in order


def pad(prompts: Sequence[Prompt], filler: Tensor) -> Batch:
    """Left-pad prompts to one batch; `filler` (D,) is the embedding at padding positions."""
    longest = max(len(prompt) for prompt in prompts)
    device = filler.device

    def padded(rows: Sequence[Tensor], value: int | bool) -> Tensor:
        return torch.stack(
            [torch.cat([row.new_full((longest - len(row),), value), row]) for row in rows]
        )

    embeds = torch.stack(
        [
            torch.cat([filler.to(p.embeds.dtype).expand(longest - len(p), -1), p.embeds])
            for p in prompts
        ]
    )
    mask = padded([torch.ones(len(p), dtype=torch.long, device=device) for p in prompts], 0)
    axes = [
        padded([p.positions[axis] for p in prompts], 0) for axis in range(len(prompts[0].positions))
    ]
    return Batch(
        embeds=embeds,
        mask=mask,
        positions=torch.stack(axes) if len(axes) > 1 else axes[0],
        medium=padded([p.medium for p in prompts], -1),
        prunable=padded([p.prunable for p in prompts], False),
        index=padded([p.index for p in prompts], 0),
        group=padded([p.medium if p.group is None else p.group for p in prompts], -1),
        extra=tuple(
            torch.cat(parts) for parts in zip(*[p.extra for p in prompts if p.extra], strict=True)
        ),
    )
