"""The signal "question_attention": what the question pays each visual token in the first layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from sparsight.core.prompt import Prompt
from sparsight.llm.first_layer import question_attention
from sparsight.llm.layout import Layout
from sparsight.vlm.families.base import Family
from sparsight.vlm.prompt import Medium, pad, splice


def attention_in(family: Family, prompt: Prompt) -> Tensor:
    """What the question pays each token of a prompt (L,), see `question_attention`."""
    batch = pad([prompt], prompt.embeds[0])
    layout = Layout.of(batch.mask, batch.medium >= 0)
    return question_attention(family.decoder, batch.embeds, batch.positions, layout)


def asked(
    family: Family, ids: Sequence[int], media: Sequence[Medium], embed: Callable[[Tensor], Tensor]
) -> list[Medium]:
    """The media of one prompt, each token with its signal, as all of them stand in the prompt.

    `ids` is the unreduced prompt; `media` are not reduced yet.
    """
    prompt = splice(family, ids, media, embed)
    attention = attention_in(family, prompt)
    made = []
    for place, item in enumerate(media):
        signal = attention[prompt.medium == place][:, None]
        signals = {**item.full.signals, "question_attention": signal}
        full = replace(item.full, signals=signals)
        made.append(replace(item, full=full, kept=full))
    return made
