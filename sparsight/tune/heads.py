"""Which heads of the LLM hardly look at visual tokens: YOPO's calibration, on some questions.

```python
from sparsight.tune.heads import measure, skipped

heads = measure(vlm, items)                              # the paper takes 100
fast = vlm.using("yopo", skip=skipped(heads, keep=0.5))  # half of the heads look
```

arXiv:2410.06169. As in the released script for models that are not trained for it, a head is judged
by the row of attention that the first token of the answer comes from. The paper gives thresholds
that were set by hand for each model, to keep a wanted share of its heads; here the share is given
and the threshold follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sparsight.bench.item import Item
from sparsight.bench.runner import frames_of
from sparsight.core.errors import UserError
from sparsight.core.slots import slots_of
from sparsight.llm.attention import layers_of, probe
from sparsight.ops.head_votes import as_pairs, looking_heads
from sparsight.vlm.messages import question_messages
from sparsight.vlm.prompt import pad

if TYPE_CHECKING:
    from sparsight.vlm.pipeline import VLM

_VOTES = 0.4  # share of the samples in which a head must look, to be kept
_WHOLE = 2  # first layers that keep all their heads


class HeadSums(NamedTuple):
    """Attention of the last prompt token, (layers, samples, heads) float32 on the CPU: summed
    over visual tokens, and over all others."""

    visual: Tensor
    rest: Tensor


def measure(vlm: VLM, items: Sequence[Item]) -> HeadSums:
    """How much each head looks at visual tokens, item by item. No attention map is built.

    Raises `UserError` for a plan with a system inside the LLM, and where there are no items.
    """
    if not items:
        raise UserError("there are no questions to measure the heads on")
    for system in vlm.plan.systems:
        if "inside" in slots_of(system):
            raise UserError(
                f"{system.system_name} works inside the LLM: measure the heads without it"
            )
    with torch.inference_mode():
        sums = [_sums(vlm, item) for item in items]
    visual, rest = torch.stack(sums, dim=2).unbind(1)
    return HeadSums(visual, rest)


def skipped(sums: HeadSums, keep: float) -> tuple[int, ...]:
    """The heads to skip so that about the share `keep` of the others looks, as the knob `skip` of
    `yopo` takes them: layer, head, layer, head, ... The first two layers keep all heads."""
    assert 0 < keep <= 1, keep
    ratio = sums.visual / sums.rest
    votes = int(_VOTES * ratio.shape[1])
    # A head looks where more than `votes` samples are above the threshold.
    highest = ratio.sort(dim=1, descending=True).values[_WHOLE:, votes].flatten()
    kept = round(keep * len(highest))
    if kept == len(highest):
        return ()
    threshold = float(highest.sort(descending=True).values[kept])
    return as_pairs(looking_heads(sums.visual, sums.rest, threshold, votes, _WHOLE))


def _sums(vlm: VLM, item: Item) -> Tensor:
    """(layers, 2, heads): what the last token of one prompt sees of visual and of other tokens."""
    messages = question_messages(item.sources(), item.question)
    [prepared] = vlm.prepare([messages], frames=frames_of(vlm, item))
    filler = vlm.embed(torch.tensor([vlm.family.pad_token]))[0]
    batch = pad([prepared.prompt], filler)
    visual = vlm.layout(batch).visual[0]

    def summed(rows: Tensor) -> Tensor:
        """(1, H, 1, K) -> (2, H)"""
        row = rows[0, :, 0]
        return torch.stack([row[:, visual].sum(1), row[:, ~visual].sum(1)])

    decoder = vlm.family.decoder
    depth = len(layers_of(decoder))
    with vlm.driving(batch), probe(decoder, dict.fromkeys(range(depth), "last"), summed) as scores:
        decoder(
            inputs_embeds=batch.embeds,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        )
    return torch.stack([scores[layer] for layer in range(depth)]).float().cpu()
