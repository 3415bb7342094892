"""Explaining a model's own answer: how relevant each visual token was, and what told it beforehand.

These are the pairs that the predictor of "explain-compress" learns from; arXiv:2506.01097.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.prompt import Prompt
from sparsight.llm.relevance import token_relevance
from sparsight.vlm.first_layer import attention_in
from sparsight.vlm.pipeline import VLM
from sparsight.vlm.prompt import pad


@dataclass(frozen=True)
class Explained:
    """One medium of a request whose answer is known. Both (n,) float32, of the n visual tokens
    that may be pruned.

    attention  what the question pays each in the LLM's first layer, which is known beforehand
    relevance  how relevant it was to the answer
    """

    attention: Tensor
    relevance: Tensor


def explain(
    vlm: VLM,
    messages: Sequence[Mapping[str, Any]],
    answer: Sequence[int],
    *,
    frames: str | None = None,
) -> list[Explained]:
    """Explain an answer of the plain model, medium by medium.

    Args:
        vlm: a model without systems.
        messages: as `VLM.chat` takes them.
        answer: its token ids (`Reply.tokens`); special ones, such as its end, are left out.
        frames: as in `VLM.chat`.

    Holds the attention maps of all layers and goes backwards once a token, so model and prompt must
    leave room for that. Raises `UserError` for a plan with systems and for an empty answer.
    """
    if vlm.plan.systems:
        raise UserError("the plain model is explained: leave out its systems")
    special = set(vlm.family.tokenizer.all_special_ids)
    words = torch.tensor([token for token in answer if token not in special])
    if len(words) == 0:
        raise UserError("there is no answer to explain")
    with torch.no_grad():
        [prepared] = vlm.prepare([messages], frames=frames)
        prompt = prepared.prompt
        attention = attention_in(vlm.family, prompt)
        longer = _with_words(prompt, words[:-1], vlm.embed(words[:-1]))
    relevance = _relevance(vlm, longer, words.to(attention.device))
    of_media = [(prompt.medium == place) & prompt.prunable for place in range(len(prepared.media))]
    return [Explained(attention[rows].cpu(), relevance[rows].cpu()) for rows in of_media]


def _relevance(vlm: VLM, prompt: Prompt, words: Tensor) -> Tensor:
    """(L,) of the prompt that `prompt` is beside all of its answer but the last word."""
    batch = pad([prompt], prompt.embeds[0])
    run = partial(
        vlm.family.model, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    )
    with vlm.driving(batch):
        return token_relevance(
            vlm.family.decoder, lambda x: run(inputs_embeds=x).logits, batch.embeds, words
        )


def _with_words(prompt: Prompt, ids: Tensor, embeds: Tensor) -> Prompt:
    """A prompt with words of an answer (n,) behind it."""
    count, device = len(ids), prompt.embeds.device

    def more(rows: Tensor, value: int | bool) -> Tensor:
        return torch.cat([rows, rows.new_full((count,), value)])

    # Decoding counts on from the last position, on all axes.
    on = torch.arange(1, count + 1, device=device)
    return replace(
        prompt,
        embeds=torch.cat([prompt.embeds, embeds.to(prompt.embeds)]),
        ids=torch.cat([prompt.ids, ids.to(device)]),
        positions=torch.cat([prompt.positions, prompt.positions[:, -1:] + on], 1),
        medium=more(prompt.medium, -1),
        prunable=more(prompt.prunable, False),
        index=torch.cat([prompt.index, prompt.length - 1 + on]),
        length=prompt.length + count,
        group=None if prompt.group is None else more(prompt.group, -1),
    )
