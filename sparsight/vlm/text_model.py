"""A language model without eyes, for systems that let one read captions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteriaList

from sparsight.core.errors import UserError
from sparsight.core.reply import Flops, Reply, Timing, Usage
from sparsight.llm.cache import kv_bytes
from sparsight.llm.generation import Cancel, StepTimes
from sparsight.measure.flops import decode_flops, decoder_shape, prefill_flops
from sparsight.measure.stages import synchronize
from sparsight.vlm.load import find_model


class TextModel:
    """A causal language model and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    @property
    def room(self) -> int | None:
        """Positions it was trained on; None where its configuration does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def ids(self, messages: Sequence[Mapping[str, Any]]) -> Tensor:
        """Messages of text as prompt ids (1, L), with the chat template where there is one; a model
        without was not tuned to chat, and reads them as paragraphs."""
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
            return self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        text = "\n\n".join(message["content"] for message in messages)
        return self.tokenizer(text, return_tensors="pt")["input_ids"]

    def chat(
        self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], cancel: Cancel
    ) -> Reply:
        """Answer messages of text; `options` are settings of transformers' generation."""
        started = time.perf_counter()
        device = self.model.device
        ids = self.ids(messages).to(device)
        length = ids.shape[1]
        if self.room is not None and length + options["max_new_tokens"] > self.room:
            raise UserError(
                f"the prompt takes {length} positions and the answer up to "
                f"{options['max_new_tokens']}, but the text model has {self.room}"
            )
        times = StepTimes(lambda: synchronize(device))
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
                stopping_criteria=StoppingCriteriaList([times, cancel]),
                return_dict_in_generate=True,
                **options,
            )
        answer = out.sequences[0, length:].tolist()
        ends = self.model.generation_config.eos_token_id
        stopped = answer[-1] in (ends if isinstance(ends, list) else [ends])
        shape = decoder_shape(self.model.config)
        layers = [length] * shape.layers
        ended = time.perf_counter()
        return Reply(
            text=self.tokenizer.decode(answer, skip_special_tokens=True).strip(),
            tokens=tuple(answer),
            finish="stop" if stopped else "cancelled" if cancel.cancelled else "length",
            usage=Usage(0, 0, 0.0, length, len(answer)),
            timing=Timing(
                stages={"prefill": times.first or 0.0},
                steps=tuple(times.steps),
                first_token=times.at[0] - started,
                total=ended - started,
            ),
            kv_bytes=kv_bytes(out.past_key_values),
            flops=Flops(
                0.0, prefill_flops(shape, layers), decode_flops(shape, layers, len(answer) - 1)
            ),
        )


def load_text_model(model: str, device: torch.device) -> TextModel:
    """A text model from a local folder or hub id; safetensors only, no remote code.

    Raises `UserError` with one line for what cannot be found or loaded.
    """
    folder = find_model(model)
    try:
        loaded, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"text model {model!r} does not load: {first[:200]}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise UserError(f"text model {model!r} lacks {len(missing)} tensors, such as {missing[0]}")
    return TextModel(loaded.to(device).eval(), tokenizer)
