"""Which tokens of a prompt caused a model's answer, by its attention and the gradients of it.

Shape suffixes: B batch, H heads, L sequence, T tokens of the answer, D width, A width of a head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsight.llm.attention import Call, attention_rows, detour, layers_of
from sparsight.ops.relevance import relevance_of_row


def token_relevance(
    decoder: nn.Module, logits: Callable[[Tensor], Tensor], embeds: Tensor, answer: Tensor
) -> Tensor:
    """How relevant each token of the prompt is to an answer, (L,) float32, the mean over its words.

    Args:
        decoder: the module with `.layers`.
        logits: runs the model on embeddings (1, L + T - 1, D), without a cache, whatever its own
            attention; returns (1, L + T - 1, V).
        embeds: (1, L + T - 1, D), prompt and answer but for its last token.
        answer: (T,) ids. Each is explained by a backward pass of its own, behind those before it.

    Maps of all layers are held meanwhile: L ** 2 numbers a head and layer, and as many gradients.
    """
    layers = len(layers_of(decoder))
    maps: dict[int, Tensor] = {}

    def attend(layer: int, call: Call) -> Tensor:
        maps[layer] = _map(call)
        groups = call.query.shape[1] // call.value.shape[1]
        value = call.value.repeat_interleave(groups, 1)
        return (maps[layer].to(value.dtype) @ value).transpose(1, 2)

    prompt = embeds.shape[1] - len(answer) + 1
    with torch.enable_grad(), detour(decoder, range(layers), attend):
        # The maps must have gradients even where all weights are frozen.
        out = logits(embeds.detach().requires_grad_())
        held = [maps[layer] for layer in range(layers)]
        total = torch.zeros(prompt, device=embeds.device)
        for step, word in enumerate(answer.tolist()):
            row = prompt - 1 + step
            gradients = torch.autograd.grad(
                out[0, row, word], held, retain_graph=step < len(answer) - 1
            )
            of_row = relevance_of_row(
                [item[0].detach() for item in held], [item[0] for item in gradients], row
            )
            total += of_row[:prompt]
    return total / len(answer)


def _map(call: Call) -> Tensor:
    """The whole attention map of a call, (B, H, L, L) float32."""
    rows = torch.arange(call.query.shape[2], device=call.query.device).expand(len(call.query), -1)
    return attention_rows(
        call.query, call.key, rows, call.scaling, call.mask,
        causal=True, window=call.kwargs.get("sliding_window"), softcap=call.kwargs.get("softcap"),
    )  # fmt: skip
