"""Attention scores without attention maps: a probe that reads single rows at single layers.

The probed layers run the attention implementation they ran before (SDPA, Flash, eager), so their
output is bit-identical; beside it the wanted rows of softmax(q k^T) are computed in float32 from
the queries and keys that implementation was given. Decoders and vision towers alike.

Shape suffixes: B batch, H heads, R wanted rows, L queries, K keys, A width of a head.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Union

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sparsight.core.errors import UserError
from sparsight.core.meter import metered
from sparsight.llm.layout import Layout

#: Which attention rows to read at a layer:
#:   "last"        the last query, (B, H, 1, K)
#:   "cls"         the first query, (B, H, 1, K)
#:   "cls-joined"  the first query, all heads taken as one wide head, (B, 1, 1, K)
#:   "received"    the mean over all queries, (B, H, 1, K)
#:   "keys"        no rows but the keys themselves, (B, key heads, K, A)
#:   (B, R) or (R,) long tensor: these queries, (B, H, R, K)
#:   a function of the layout that returns one of the above, or None to read nothing this time.
Rows = Union[  # noqa: UP007
    Literal["last", "cls", "cls-joined", "received", "keys"], Tensor, Callable[[Layout | None], Any]
]

#: How heads are put together: "mean", "max", or a function (B, H, R, K) -> anything.
Heads = Literal["mean", "max"] | Callable[[Tensor], Tensor]

_BLOCK = 128  # queries at a time when all of them are averaged: bounds memory, not the result
_SUFFIX = "+rows"
_lock = threading.Lock()


@dataclass
class Scores:
    """What a probe has read: `scores[layer]` is the latest, `scores.all[layer]` every one."""

    all: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def __getitem__(self, layer: int) -> Tensor:
        if not self.all.get(layer):
            raise UserError(
                f"layer {layer} gave no attention scores: its attention does not go through "
                "transformers' AttentionInterface, or it has not run on more than one token"
            )
        return self.all[layer][-1]

    def __contains__(self, layer: int) -> bool:
        return bool(self.all.get(layer))


@dataclass(frozen=True)
class _Probe:
    layer_of: dict[int, int]  # id of an attention module -> its layer
    rows: Mapping[int, Rows]
    heads: Heads | None
    layout: Callable[[], Layout | None]
    decode: bool
    scores: Scores
    ends: bool = False  # whether reading is all that is wanted: the layer goes no further


@dataclass(frozen=True)
class Call:
    """One call of a layer's attention: query (B, H, L, A), key and value (B, G, K, A), its mask.

    `run` calls the implementation that the layer had before, with other tensors where given.
    """

    implementation: Callable[..., tuple[Tensor, Tensor | None]]
    module: Any
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def scaling(self) -> float:
        return self.kwargs.get("scaling") or self.query.shape[-1] ** -0.5

    @property
    def is_flash(self) -> bool:
        return "flash" in (self.module.config._attn_implementation or "")

    def last_row(self) -> Tensor:
        """The attention of the last query, (B, H, K), in float32."""
        rows = torch.full((len(self.query), 1), self.query.shape[2] - 1, device=self.query.device)
        scores = attention_rows(
            self.query, self.key, rows, self.scaling, self.mask,
            causal=True, softcap=self.kwargs.get("softcap"),
        )  # fmt: skip
        return scores[:, :, 0]

    def run(self, **other: Any) -> tuple[Tensor, Tensor | None]:
        given = {name: getattr(self, name) for name in ("query", "key", "value", "mask")} | other
        return self.implementation(self.module, *given.values(), *self.args, **self.kwargs)


#: What a layer's attention does instead: (layer, call) -> output (B, L, H, A), or None for nothing
#: else than it would.
Detour = Callable[[int, Call], Tensor | None]


# Probes live in the context that opened them: another thread on the same weights sees none.
_probes: ContextVar[tuple[_Probe, ...]] = ContextVar("sparsight_probes", default=())
_detours: ContextVar[tuple[tuple[dict[int, int], Detour], ...]] = ContextVar(
    "sparsight_detours", default=()
)


@contextmanager
def detour(stack: nn.Module, layers: Iterable[int], way: Detour) -> Iterator[None]:
    """Let `way` compute the attention of some layers of a decoder while it runs."""
    found = layers_of(stack)
    layer_of = {id(part): i for i in layers for part in found[i].modules()}
    parts = [part for i in layers for part in found[i].modules() if _has_attention_config(part)]
    before = _detours.get()
    _redirect(parts)
    _detours.set((*before, (layer_of, way)))
    try:
        yield
    finally:
        _detours.set(before)
        _restore(parts)


@contextmanager
def probe(
    stack: nn.Module,
    rows: Mapping[int, Rows],
    heads: Heads | None = None,
    *,
    layout: Layout | Callable[[], Layout | None] | None = None,
    decode: bool = False,
) -> Iterator[Scores]:
    """Read attention rows of some layers of a decoder or vision tower while it runs.

    Args:
        stack: a module with `.layers` (or `.blocks`), e.g. `model.model.language_model`.
        rows: layer (negative counts from the end) -> which rows, see `Rows`.
        heads: how to put heads together; None keeps them apart.
        layout: what a rows function is called with.
        decode: also read forwards of a single token, not only prefill.

    Yields the scores, float32. Keys are those the layer attends to, cached ones first.
    Raises `UserError` for a layer that does not exist or was not read.
    """
    layers = layers_of(stack)
    wanted = {_index(layer, len(layers)): rule for layer, rule in rows.items()}
    current = layout if callable(layout) else lambda: layout
    layer_of = {id(part): i for i in wanted for part in layers[i].modules()}
    scores = Scores()
    before = _probes.get()
    parts = [part for i in wanted for part in layers[i].modules() if _has_attention_config(part)]
    _redirect(parts)
    _probes.set((*before, _Probe(layer_of, wanted, heads, current, decode, scores)))
    try:
        yield scores
    finally:
        _probes.set(before)
        _restore(parts)


def look_ahead(
    stack: nn.Module,
    layer: int,
    rows: Rows,
    hidden: Tensor,
    heads: Heads | None = None,
    *,
    layout: Layout | None = None,
    **given: Any,
) -> Tensor | None:
    """Attention rows that a layer would compute on `hidden` (B, L, D), without running it.

    The layer runs as far as its attention (norm, projections, rotation) and stops there. `given`
    is what it is called with beside the hidden states; a (B, L) mask will do. Otherwise as `probe`.
    """
    part = layers_of(stack)[layer]
    configured = [module for module in part.modules() if _has_attention_config(module)]
    layer_of = {id(module): layer for module in part.modules()}
    scores = Scores()
    ahead = _Probe(layer_of, {layer: rows}, heads, lambda: layout, True, scores, ends=True)
    before = _probes.get()
    _redirect(configured)
    _probes.set((ahead,))
    try:
        part.forward(hidden, **given)
    except _Ended:
        pass
    finally:
        _probes.set(before)
        _restore(configured)
    return scores.all[layer][-1] if scores.all[layer] else None


def layers_of(stack: nn.Module) -> nn.ModuleList:
    """The list of layers of a decoder or tower; raises `UserError` if it has none."""
    layers = getattr(stack, "layers", None)
    if layers is None:
        layers = getattr(stack, "blocks", None)
    if not isinstance(layers, nn.ModuleList):
        raise UserError(f"{type(stack).__name__} has no list of layers to hook into")
    return layers


def attention_rows(
    query: Tensor,
    key: Tensor,
    rows: Tensor,
    scaling: float,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Rows of softmax(q k^T * scaling + mask), computed in float32.

    Args:
        query: (B, H, L, A), after rotation.
        key: (B, G, K, A), H a multiple of G (grouped queries); the last L keys are the queries'.
        rows: (B, R) long, which queries.
        mask: None, (B, K) true where a key is a token, or (B or 1, H or 1, L, K) bool or additive.
        causal: with no mask or a (B, K) one, whether a query sees only keys up to its own.
        window: with `causal`, how many keys back a query sees.
        softcap: cap * tanh(x / cap) on the logits.

    Returns (B, H, R, K).
    """
    batch, heads, length, width = query.shape
    groups, keys = key.shape[1:3]
    count = rows.shape[1]
    picked = query.gather(2, rows[:, None, :, None].expand(batch, heads, count, width)).float()
    grouped = picked.reshape(batch, groups, heads // groups * count, width)
    logits = (grouped @ key.float().transpose(-1, -2)).view(batch, heads, count, keys) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    bias = _bias(rows, length, keys, mask, causal, window)
    return (logits if bias is None else logits + bias).softmax(-1)


def attention_received(
    query: Tensor,
    key: Tensor,
    scaling: float,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Mean attention each key receives over all queries that are tokens, (B, H, 1, K).

    Arguments as in `attention_rows`; the map is never held as a whole.
    """
    batch, _, length, _ = query.shape
    keys = key.shape[2]
    total: Tensor | float = 0.0
    count: Tensor | float = 0.0
    for rows in torch.arange(length, device=query.device).split(_BLOCK):
        at = rows.expand(batch, -1)
        part = attention_rows(
            query, key, at, scaling, mask, causal=causal, window=window, softcap=softcap
        )
        bias = _bias(at, length, keys, mask, causal, window)
        if bias is None:
            total = total + part.sum(2, keepdim=True)
            count = count + len(rows)
        else:
            # A padded query does not see itself.
            own = (at + keys - length)[:, None, :, None].expand(batch, bias.shape[1], -1, 1)
            token = bias.expand(batch, -1, -1, -1).gather(-1, own) > _hidden / 2
            total = total + (part * token).sum(2, keepdim=True)
            count = count + token.sum(2, keepdim=True)
    assert isinstance(total, Tensor), "attention over no queries"
    return total / count


_hidden = torch.finfo(torch.float32).min


def _bias(
    rows: Tensor, length: int, keys: int, mask: Tensor | None, causal: bool, window: int | None
) -> Tensor | None:
    """What is added to the logits of `rows` (B, R): (B, 1 or H, R, K), or None for nothing."""
    if mask is not None and mask.ndim == 4:
        mask = mask[..., :keys].expand(len(rows), -1, length, -1)  # one row may stand for all
        at = rows[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
        picked = mask.gather(2, at)
        if picked.dtype != torch.bool:
            return picked.float().clamp_min(_hidden)
        return torch.zeros_like(picked, dtype=torch.float32).masked_fill(~picked, _hidden)
    if mask is None and not causal:
        return None
    column = torch.arange(keys, device=rows.device)
    own = rows[:, :, None] + (keys - length)
    seen = torch.ones(len(rows), rows.shape[1], keys, dtype=torch.bool, device=rows.device)
    if causal:
        seen &= column <= own
        if window is not None:
            seen &= column > own - window
    if mask is not None:
        seen &= mask[:, None, -keys:].bool()
    return torch.zeros_like(seen, dtype=torch.float32).masked_fill(~seen, _hidden)[:, None]


def _read(
    rule: Rows | None, active: _Probe, query: Tensor, key: Tensor, options: dict[str, Any]
) -> Tensor | None:
    if callable(rule):
        rule = rule(active.layout())
    if rule is None:
        return None
    if isinstance(rule, Tensor):
        rows = rule.to(query.device).expand(len(query), -1)
    elif rule == "keys":
        return key
    elif rule == "received":
        return _joined(attention_received(query, key, **options), active.heads)
    elif rule in ("last", "cls", "cls-joined"):
        at = query.shape[2] - 1 if rule == "last" else 0
        rows = torch.full((len(query), 1), at, device=query.device)
        if rule == "cls-joined":
            query, key = (heads.transpose(1, 2).flatten(2)[:, None] for heads in (query, key))
            options = {**options, "scaling": query.shape[-1] ** -0.5}
    else:
        known = "last, cls, cls-joined, received, keys"
        raise UserError(f"unknown attention rows {rule!r} (known: {known})")
    return _joined(attention_rows(query, key, rows, **options), active.heads)


def _joined(scores: Tensor, heads: Heads | None) -> Tensor:
    if heads is None:
        return scores
    if heads == "mean":
        return scores.mean(1)
    if heads == "max":
        return scores.amax(1)
    assert callable(heads), f"unknown head reduction {heads!r}"
    return heads(scores)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention function of a probed layer: the implementation before, then the rows."""
    config: Any = module.config
    original = _Original(module, config.sparsight_original)
    implementation = original.config._attn_implementation
    for active in _probes.get():
        layer = active.layer_of.get(id(module))
        if layer is None or (query.shape[2] == 1 and not active.decode):
            continue
        if attention_mask is not None and not isinstance(attention_mask, Tensor):
            raise UserError(f"attention scores cannot be read under {implementation}: use sdpa")
        causal = kwargs.get("is_causal")
        options = {
            "scaling": kwargs["scaling"] if kwargs.get("scaling") else query.shape[-1] ** -0.5,
            "mask": attention_mask,
            "causal": getattr(module, "is_causal", True) if causal is None else causal,
            "window": kwargs.get("sliding_window"),
            "softcap": kwargs.get("softcap"),
        }
        with torch.no_grad(), metered():
            scores = _read(active.rows[layer], active, query, key, options)
        if scores is not None:
            active.scores.all[layer].append(scores)
        if active.ends:
            raise _Ended
    if implementation is None or implementation == "eager":
        # Each modelling file has its own eager function, which the registry does not hold.
        attend = sys.modules[type(module).__module__].eager_attention_forward
    else:
        attend = ALL_ATTENTION_FUNCTIONS[implementation]
    call = Call(attend, original, query, key, value, attention_mask, args, kwargs)
    for layer_of, way in _detours.get():
        if id(module) in layer_of:
            output = way(layer_of[id(module)], call)
            if output is not None:
                return output, None
    return call.run()


class _Ended(Exception):  # noqa: N818  (not an error)
    """Raised out of a layer whose rows have been read ahead."""


class _Original:
    """An attention module as its own implementation knows it: with the config it had before.

    Flash attention chooses its kernel by the name in `module.config`.
    """

    def __init__(self, module: nn.Module, config: Any) -> None:
        self._module = module
        self.config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _has_attention_config(part: nn.Module) -> bool:
    return hasattr(part.__dict__.get("config"), "_attn_implementation")


def _redirect(parts: list[nn.Module]) -> None:
    """Give each module a copy of its config that names the probing attention function.

    The masks stay right: decoders build them from their own config, which is not touched.
    """
    with _lock:
        for part in parts:
            config: Any = part.config
            if not hasattr(config, "sparsight_original"):
                name = f"{config._attn_implementation or 'eager'}{_SUFFIX}"
                AttentionInterface.register(name, _attend)
                original, config = config, copy.copy(config)
                config.sparsight_original = original
                config.sparsight_probes = 0
                config._attn_implementation_internal = name
                part.config = config
            config.sparsight_probes += 1


def _restore(parts: list[nn.Module]) -> None:
    with _lock:
        for part in parts:
            config: Any = part.config
            config.sparsight_probes -= 1
            if config.sparsight_probes == 0:
                part.config = config.sparsight_original


def _index(layer: int, depth: int) -> int:
    if not -depth <= layer < depth:
        raise UserError(f"there is no layer {layer}: the stack has {depth} layers")
    return layer % depth
