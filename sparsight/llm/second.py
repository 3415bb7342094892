"""A second prompt read along with the first, whose logits go into the choice of every token.

The second prompt has a key-value cache, a mask and positions of its own; what the two have in
common is the tokens of the answer. It works inside transformers' `generate`, as a logits processor.

Shape suffixes: B rows, R rows that have a second prompt, L tokens of it, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from sparsight.core.meter import metered
from sparsight.llm.cache import kv_bytes


class SecondStream(LogitsProcessor):
    """Reads a second prompt along, for one call of `generate`.

    Args:
        model: the model that generates.
        embeds: (R, L, D) the second prompts, padded on the left.
        mask: (R, L) 0 at padding.
        positions: (R, L), or (P, R, L) with several axes.
        combine: the logits (R, V) of the first prompts and of the second, float32 -> those that
            the token is chosen by.
        rows: which rows of the batch have a second prompt; the others keep their logits.
        opened: what has to be open while the second prompts are prefilled.

    What is opened around `generate` after this was made (edits, probes) does not see the second
    stream: it runs in the context of its making.
    """

    def __init__(
        self,
        model: Any,
        embeds: Tensor,
        mask: Tensor,
        positions: Tensor,
        combine: Callable[[Tensor, Tensor], Tensor],
        rows: Sequence[int],
        opened: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.cache: Any = None
        self._model = model
        self._embeds = embeds
        # Without padding the mask is left out, as `generate` does: attention is faster then.
        self._mask = None if bool(mask.all()) else mask
        self._positions = positions
        self._combine = combine
        self._rows = torch.tensor(rows, device=embeds.device)
        self._opened = opened
        self._context = copy_context()

    @property
    def kv_bytes(self) -> int:
        """Bytes that the second cache holds."""
        return 0 if self.cache is None else kv_bytes(self.cache)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        with metered():
            rows = self._rows.to(scores.device)
            second = self._context.run(self._read, input_ids[rows, -1:])
            mixed = self._combine(scores[rows], second.to(scores.device))
            return scores.index_copy(0, rows, mixed)

    def _read(self, ids: Tensor) -> Tensor:
        """The logits (R, V) behind the second prompts and the answer so far, `ids` (R, 1) its
        last token; there is none yet at the first call."""
        given: dict[str, Any] = {"past_key_values": self.cache, "use_cache": True}
        if self.cache is None:
            with self._opened():
                out = self._model(
                    inputs_embeds=self._embeds,
                    attention_mask=self._mask,
                    position_ids=self._positions,
                    logits_to_keep=1,
                    **given,
                )
        else:
            if self._mask is not None:
                self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], 1)
            self._positions = self._positions[..., -1:] + 1
            out = self._model(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                **given,
            )
        self.cache = out.past_key_values
        return out.logits[:, -1].float()

    def loop(self, streamer: BaseStreamer | None) -> Callable[..., Any]:
        """transformers' own sampling with this at the head of its processors, to be given to
        `generate` as `custom_generate`. A processor that is only handed to `generate` comes
        behind the penalties for repetition and the like, which then change what is contrasted.
        """

        def sample(model: Any, input_ids: Tensor, logits_processor: Any, **given: Any) -> Any:
            # A loop of one's own is not given the streamer.
            given.setdefault("streamer", streamer)
            processors = LogitsProcessorList([self, *logits_processor])
            return model._sample(input_ids, logits_processor=processors, **given)

        return sample
