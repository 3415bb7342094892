"""What a request became on its way, and what it cost: the parts of a reply."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsight.core.clip import Clip
from sparsight.core.prompt import Prompt
from sparsight.core.reply import Flops, TokenMap, Usage
from sparsight.core.tokens import Views
from sparsight.llm.edits import Trace
from sparsight.measure.flops import DecoderShape, decode_flops, prefill_flops
from sparsight.vlm.prompt import Medium


@dataclass(frozen=True)
class Seen:
    """One medium on its way: the clip, the frames chosen, its views, and what the prompt tells of
    the frames."""

    clip: Clip
    frames: tuple[int, ...]
    views: Views
    told: str = ""


@dataclass(frozen=True)
class Prepared:
    """A request up to the prompt, with the media in the order of the prompt.

    `second` is the prompt that is read along where a system decodes with two; `select_flops` are
    the operations of what systems asked a model on the way.
    """

    prompt: Prompt
    media: tuple[Medium, ...]
    seen: tuple[Seen, ...]
    tower_flops: float
    second: Prompt | None = None
    select_flops: float = 0.0


def visual_per_layer(prompt: Prompt, depth: int, trace: Trace | None, row: int) -> list[int]:
    """Visual tokens that each of the LLM's `depth` layers was given."""
    visual = int(prompt.visual.sum())
    return [visual] * depth if trace is None else trace.visual[:, row].tolist()


def usage(item: Prepared, visual: list[int], answer: int) -> Usage:
    """The tokens of a request; `visual` as `visual_per_layer` gives it."""
    return Usage(
        visual_seen=sum(medium.slots for medium in item.media),
        visual_kept=sum(len(medium.kept) for medium in item.media),
        visual_mean=sum(visual) / len(visual),
        prompt=len(item.prompt),
        answer=answer,
    )


def flops(item: Prepared, shape: DecoderShape, visual: list[int], answer: int) -> Flops:
    """Operations of a request whose answer has `answer` tokens."""
    text = len(item.prompt) - int(item.prompt.visual.sum())
    streams = [[text + count for count in visual]]  # the tokens of each layer
    if item.second is not None:
        streams.append([len(item.second)] * shape.layers)
    steps = max(0, answer - 1)
    return Flops(
        tower=item.tower_flops,
        prefill=sum(prefill_flops(shape, tokens) for tokens in streams),
        decode=sum(decode_flops(shape, tokens, steps) for tokens in streams),
        select=item.select_flops,
    )


def token_map(item: Prepared, place: int, depth: int, trace: Trace | None, row: int) -> TokenMap:
    """Which tokens of the medium at `place` survived, and through how many layers."""
    medium, seen = item.media[place], item.seen[place]
    full, kept = medium.full, medium.kept
    layers = torch.full((len(kept),), depth)
    if trace is not None:
        of_medium = item.prompt.index[item.prompt.medium == place].cpu()
        lived = torch.zeros(len(of_medium), dtype=torch.long)
        for layer in range(depth):
            lived += torch.isin(of_medium, trace.kept(layer, row).cpu())
        layers = lived
    return TokenMap(
        origin=seen.clip.origin,
        box=full.box.cpu(),
        view=full.view.cpu(),
        time=full.time.cpu(),
        role=full.views.roles,
        kept=kept.index.cpu(),
        kept_box=kept.box.cpu(),
        kept_view=kept.view.cpu(),
        kept_time=kept.time.cpu(),
        weight=kept.weight.cpu(),
        layers=layers,
        depth=depth,
        frames=seen.frames,
    )
