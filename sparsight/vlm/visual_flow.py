"""Measuring on a model how much its text draws on visual tokens in each layer.

```python
from sparsight.ops.cumulative_mass import falling_cuts
from sparsight.vlm.visual_flow import measure

flow = measure(vlm, conversations)  # a few dozen
layers, ratios = falling_cuts(flow.to_text.tolist(), flow.effective.tolist())
fast = vlm.using("adatoken-3d", layers=layers, ratios=ratios)
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from sparsight.core.errors import UserError
from sparsight.core.slots import slots_of
from sparsight.llm.visual_flow import VisualFlow, mean_flow, visual_flow
from sparsight.vlm.pipeline import VLM
from sparsight.vlm.prompt import pad


def measure(
    vlm: VLM,
    conversations: Iterable[Sequence[Mapping[str, Any]]],
    *,
    eps: float = 0.05,
    frames: str | None = None,
) -> VisualFlow:
    """The mean flow of conversations (OpenAI-style messages, as `VLM.chat` takes them).

    Systems before the LLM take part. Raises `UserError` for a plan with a system inside the LLM,
    for a conversation without media, and where there are no conversations.
    """
    for system in vlm.plan.systems:
        if "inside" in slots_of(system):
            raise UserError(
                f"{system.system_name} drops tokens inside the LLM: measure the model without it"
            )
    filler = vlm.embed(torch.tensor([vlm.family.pad_token]))[0]
    flows = []
    with torch.inference_mode():
        for messages in conversations:
            [prepared] = vlm.prepare([messages], frames=frames)
            if not prepared.media:
                raise UserError("a conversation without media says nothing of visual tokens")
            batch = pad([prepared.prompt], filler)
            run = partial(
                vlm.family.decoder,
                inputs_embeds=batch.embeds,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                use_cache=False,
            )
            with vlm.driving(batch):
                flows.append(visual_flow(vlm.family.decoder, vlm.layout(batch), run, eps))
    if not flows:
        raise UserError("there is no conversation to measure the model on")
    return mean_flow(flows)
