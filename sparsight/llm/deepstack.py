"""DeepStack: visual features added to the hidden states after the first decoder layers.

The decoder's own way wants the whole sequence after every layer; these hooks add the same sums
and follow the tokens that edits have left.

Shape suffixes: B batch, L sequence, N visual tokens of the whole batch, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from sparsight.core.errors import UserError
from sparsight.llm.attention import layers_of
from sparsight.llm.edits import surviving

# Which calls are open in this context: another thread on the same weights is left alone.
_open: ContextVar[tuple[object, ...]] = ContextVar("sparsight_deepstack", default=())


@contextmanager
def deepstack(decoder: nn.Module, features: Sequence[Tensor], mask: Tensor) -> Iterator[None]:
    """Add `features[i]` to the visual tokens after decoder layer i, at prefill.

    Args:
        decoder: the module with `.layers`, e.g. `model.model.language_model`.
        features: one (N, D) tensor a layer, the visual tokens of row 0 first, then of row 1, ...
        mask: (B, L) bool, which tokens of the prefilled sequence are visual; N are true. When a
            cache holds the beginning, the last columns are those of the tokens that are new.

    Raises `UserError` when features and mask disagree on N or there are too few layers.
    """
    layers = layers_of(decoder)
    count = int(mask.sum())
    for i, feature in enumerate(features):
        if len(feature) != count:
            raise UserError(f"deepstack layer {i} has {len(feature)} features for {count} tokens")
    if len(features) > len(layers):
        raise UserError(f"{len(features)} deepstack features for {len(layers)} layers")
    call, before = object(), _open.get()
    with ExitStack() as stack:
        for layer, feature in zip(layers, features, strict=False):
            hook = layer.register_forward_hook(
                _adding(call, decoder, feature, mask), with_kwargs=True
            )
            stack.callback(hook.remove)
        _open.set((*before, call))
        stack.callback(_open.set, before)
        yield


def _adding(
    call: object, decoder: nn.Module, feature: Tensor, mask: Tensor
) -> Callable[[nn.Module, Any, dict[str, Any], Any], Any]:
    # Each visual token's row in `feature`.
    row = (mask.flatten().cumsum(0) - 1).view(mask.shape)

    def hook(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        if call not in _open.get() or hidden.shape[1] == 1:
            return None
        left = surviving(decoder)
        length = hidden.shape[1] if left is None else left.length
        cache = kwargs.get("past_key_values")
        if mask.shape[1] not in (length, cache.get_seq_length() if cache is not None else length):
            return None  # a later forward in this call: the mask does not speak of its tokens
        here, rows = mask[:, -length:], row[:, -length:]
        if left is not None:
            here = here.gather(1, left.columns)
            rows = rows.gather(1, left.columns)
        added = hidden.clone()
        added[here] += feature[rows[here]].to(hidden.device, hidden.dtype)
        return (added, *output[1:]) if isinstance(output, tuple) else added

    return hook
