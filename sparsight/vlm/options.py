"""The settings of a generation, checked before any work."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from transformers import GenerationConfig

from sparsight.core.errors import UserError, unknown

#: Settings of transformers' generation that the pipeline sets itself.
_OURS = {"max_new_tokens", "max_length", "return_dict_in_generate", "use_cache"}
#: Settings whose wrong values transformers finds only after the tower has run: what is allowed.
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "temperature": ("a number of 0 or more", lambda value: 0 <= value < math.inf),
    "top_p": ("a number above 0 and up to 1", lambda value: 0 < value <= 1),
    "top_k": ("a whole number of 0 or more", lambda value: value >= 0 and value == int(value)),
    "repetition_penalty": ("a number above 0", lambda value: 0 < value < math.inf),
}


def generation_options(max_tokens: int, generation: Mapping[str, Any]) -> dict[str, Any]:
    """Checked settings for transformers' generation; temperature=0 reads as greedy."""
    if max_tokens < 1:
        raise UserError(f"max_tokens must be 1 or more, not {max_tokens}")
    options = dict(generation)
    known = _generation_settings()
    for name, value in options.items():
        if name in ("max_new_tokens", "max_length"):
            raise UserError(f"{name} is called max_tokens here")
        if name not in known:
            raise unknown("generation setting", name, known)
        if name in _RANGES and value is not None:
            _check_range(name, value)
    temperature = options.get("temperature")
    if temperature is not None:
        options["do_sample"] = temperature > 0
        if temperature == 0:
            del options["temperature"]
    if options.get("num_beams", 1) > 1 or options.get("num_return_sequences", 1) > 1:
        raise UserError("beam search and several answers a question are not supported")
    return {**options, "max_new_tokens": max_tokens}


@functools.cache
def _generation_settings() -> frozenset[str]:
    """The names of transformers' generation settings that a request may give."""
    return frozenset(name for name in GenerationConfig().to_dict() if name[0] != "_") - _OURS


def _check_range(name: str, value: Any) -> None:
    allowed, inside = _RANGES[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not inside(value):
        raise UserError(f"{name} must be {allowed}, not {value!r}")
