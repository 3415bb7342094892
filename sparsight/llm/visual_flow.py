"""How much of a decoder's attention goes to visual tokens, layer by layer, and to how few of them.

Shape suffixes: B batch, H heads, R rows, K keys, N visual tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsight.llm.attention import layers_of, probe
from sparsight.llm.layout import Layout
from sparsight.ops.cumulative_mass import minimal_top_count
from sparsight.ops.select import even

_SAMPLED = 64  # visual queries whose mean stands for all: a film has thousands


@dataclass(frozen=True)
class VisualFlow:
    """Attention that flows from visual tokens, (layers,) float32 each.

    to_text    share of the attention of the text behind the media that goes to visual tokens
    among      the same for visual tokens themselves
    effective  the smallest share of the visual tokens that holds 1 - eps of `to_text`
    """

    to_text: Tensor
    among: Tensor
    effective: Tensor


def visual_flow(
    decoder: nn.Module, layout: Layout, run: Callable[[], object], eps: float = 0.05
) -> VisualFlow:
    """The flow of one prompt, read while `run` sends it through the decoder; no map is built.

    `layout` is of a batch of one. Heads are averaged, and so are queries: for `to_text` all of the
    text behind the last medium, for `among` 64 visual tokens at equal stride (all, if fewer).
    """
    assert layout.batch == 1, "one prompt at a time"
    words = layout.words[0].nonzero()[:, 0]
    visual = layout.prunable[0].nonzero()[:, 0]
    asked = visual[even(len(visual), min(_SAMPLED, len(visual))).to(visual.device)]

    def summary(rows: Tensor) -> Tensor:
        """(1, H, R, K) -> (3,)"""
        seen = rows[0].mean(0)[:, visual]
        text = seen[: len(words)].mean(0)
        count = minimal_top_count(text, 1 - eps)
        return torch.stack([text.sum(), seen[len(words) :].sum(1).mean(), count / len(visual)])

    depth = len(layers_of(decoder))
    rows = torch.cat([words, asked])
    with probe(decoder, dict.fromkeys(range(depth), rows), summary) as scores:
        run()
    found = torch.stack([scores[layer] for layer in range(depth)]).float().cpu()
    return VisualFlow(*found.unbind(1))


def mean_flow(flows: Sequence[VisualFlow]) -> VisualFlow:
    """The mean over samples."""
    return VisualFlow(
        *(
            torch.stack([getattr(flow, name) for flow in flows]).mean(0)
            for name in ("to_text", "among", "effective")
        )
    )
