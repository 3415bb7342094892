"""Shortening the sequence between the layers of a decoder, with a ragged key-value cache.

An edit before layer K takes the hidden states apart once; from K on the rotary embeddings, the
position ids and both axes of the mask follow, and the cache of those layers holds the kept tokens
alone. Layer 0 always sees everything, so the model's own mask and decode positions stay right and
are sliced, never rebuilt: at decode the mask's key axis is cut to the columns a layer holds.

Shape suffixes: B batch, L sequence, D width, H heads, R rows, P position axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsight.core.errors import UserError
from sparsight.core.meter import metered
from sparsight.llm.attention import (
    Call,
    Detour,
    Heads,
    Rows,
    Scores,
    detour,
    layers_of,
    look_ahead,
    probe,
)
from sparsight.llm.columns import Columns, Pass, take_rope
from sparsight.llm.edit import (
    AttentionRule,
    Edit,
    LayerEdit,
    Positions,
    check_layer,
    check_layers,
    keep_mask,
    new_positions,
)
from sparsight.llm.layout import Layout
from sparsight.llm.narrow import over_columns

__all__ = [
    "AttentionRule",
    "Edit",
    "LayerEdit",
    "Positions",
    "Surviving",
    "Trace",
    "check_layer",
    "check_layers",
    "edited",
    "surviving",
]


@dataclass
class Trace:
    """What became of the sequence in a call: the layout at each layer, and what its cache holds."""

    layouts: list[Layout] = field(default_factory=list)
    cached: list[Columns | None] = field(default_factory=list)

    @property
    def tokens(self) -> Tensor:
        """(layers, B) tokens each layer was given at prefill, padding not counted."""
        return torch.stack([(~layout.padding).sum(1) for layout in self.layouts])

    @property
    def visual(self) -> Tensor:
        """(layers, B) visual tokens each layer was given at prefill."""
        return torch.stack([layout.visual.sum(1) for layout in self.layouts])

    def kept(self, layer: int, row: int = 0) -> Tensor:
        """The original indices of the tokens that reached a layer, (N,), in order."""
        layout = self.layouts[layer]
        return layout.index[row][~layout.padding[row]]


_runs: ContextVar[tuple[_Run, ...]] = ContextVar("sparsight_edits", default=())


@contextmanager
def edited(
    decoder: nn.Module,
    edits: Sequence[LayerEdit | AttentionRule],
    layout: Layout,
    past: Trace | None = None,
) -> Iterator[Trace]:
    """Apply edits during one `generate` or forward of the model that `decoder` is part of.

    Args:
        decoder: the module with `.layers` and `.rotary_emb`, e.g. `model.model.language_model`.
        edits: at most one a layer, in any order; attention rules among them.
        layout: of the sequence given to the decoder; when a cache already holds a part, of the
            whole conversation or of what is new.
        past: the trace of the call that filled the cache, if that one dropped tokens.

    Yields the trace, which fills as the decoder runs. The first forward of more than one token is
    edited; later ones in the same call are left whole. Raises `UserError` for an edit before
    layer 0 or beyond the last, for beam search, and for caches that need equal lengths.
    """
    run = _Run(decoder, edits, layout, past)
    before = _runs.get()
    if any(other.decoder is decoder for other in before):
        raise UserError("this decoder is being edited already: give all edits in one list")
    with ExitStack() as stack:
        run.attach(stack)
        _runs.set((*before, run))
        stack.callback(_runs.set, before)
        yield run.trace


@dataclass(frozen=True)
class Surviving:
    """What edits have left of the tokens that a forward of the decoder brought.

    columns  (B, L') long  which of them are left; filling names dropped ones
    length   how many they were
    """

    columns: Tensor
    length: int


def surviving(decoder: nn.Module) -> Surviving | None:
    """What is left of the sequence now running through `decoder`; None: all of it."""
    for run in _runs.get():
        state = run.state
        if run.decoder is decoder and state is not None and state.origin is not None:
            return Surviving(state.origin, state.length)
    return None


class _Run:
    """The hooks of one `edited` call and what they remember between layers and forwards."""

    def __init__(
        self,
        decoder: nn.Module,
        edits: Sequence[Any],
        layout: Layout,
        past: Trace | None,
    ) -> None:
        self.decoder: Any = decoder
        self.layers = layers_of(decoder)
        self.layout = layout
        depth = len(self.layers)
        self.edits: dict[int, LayerEdit] = {}
        self.rules: list[AttentionRule] = [edit for edit in edits if hasattr(edit, "attend")]
        edits = [edit for edit in edits if not hasattr(edit, "attend")]
        for edit in edits:
            if edit.layer == 0:
                raise UserError(
                    "nothing can be dropped before layer 0: reduce the tokens before the LLM"
                )
            if not 0 < edit.layer < depth:
                raise UserError(f"no layer {edit.layer} to edit before: use 1 to {depth - 1}")
            if edit.layer in self.edits:
                raise UserError(f"two edits before layer {edit.layer}: only one can be made")
            self.edits[edit.layer] = edit
        cached: list[Columns | None] = [None] * depth if past is None else list(past.cached)
        self.trace = Trace([layout] * depth, cached)
        shortened = [i for i, held in enumerate(cached) if held is not None]
        evicting = [1 for edit in edits if getattr(edit, "evicts", False)]
        self.first = min([*self.edits, *shortened, *evicting], default=depth)
        self.state: Pass | None = None
        self.edited = False
        self.positions: Tensor | None = None
        self.rule: Rows | None = None
        self.scores: dict[int, Scores] = {}
        self.evicted: Columns | None = None  # what is left of the prompt where an edit evicted

    def attach(self, stack: ExitStack) -> None:
        """Register the hooks and probes; `stack` takes them away again."""
        rotary = getattr(self.decoder, "rotary_emb", None)
        if rotary is not None:
            hook = rotary.register_forward_pre_hook(self._note_positions, with_kwargs=True)
            stack.callback(hook.remove)
        for i, layer in enumerate(self.layers):
            if i == 0 or i >= self.first:
                hook = layer.register_forward_pre_hook(self._before(i), with_kwargs=True)
                stack.callback(hook.remove)
        for rule in self.rules:
            stack.enter_context(detour(self.decoder, rule.layers, self._detour(rule)))
        if any(getattr(edit, "evicts", False) for edit in self.edits.values()):
            stack.enter_context(detour(self.decoder, [0], self._hide_evicted))
        for i, edit in self.edits.items():
            if edit.rows(self.layout) is not None and not getattr(edit, "ahead", False):
                rows = {i - 1: self._rows(edit)}
                reading = probe(self.decoder, rows, _heads(edit), layout=self._layout_now)
                self.scores[i] = stack.enter_context(reading)

    def _detour(self, rule: AttentionRule) -> Detour:
        def way(layer: int, call: Call) -> Tensor | None:
            if self not in _runs.get() or self.state is None:
                return None
            return rule.attend(layer, call, self._keys(layer), call.query.shape[2])

        return way

    def _keys(self, i: int) -> Layout:
        """The layout of the keys that layer `i` attends to in the forward that runs now."""
        state, held = self.state, self.trace.cached[i]
        assert state is not None
        total = state.seen + state.length
        whole = self.layout.extended(total - len(self.layout))
        if held is None:
            return whole
        since = torch.arange(held.total, total, device=held.columns.device)
        columns = torch.cat([held.columns, since.expand(len(held.columns), -1)], 1)
        filling = torch.zeros_like(columns, dtype=torch.bool)
        if held.token is not None:
            filling[:, : held.token.shape[1]] = ~held.token
        return whole.take(columns, filling)

    def _layout_now(self) -> Layout | None:
        return self.state.layout if self.state is not None else None

    def _rows(self, edit: LayerEdit) -> Any:
        def rule(layout: Layout | None) -> Rows | None:
            self.rule = None if layout is None else edit.rows(layout)
            return self.rule

        return rule

    def _note_positions(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self in _runs.get():
            self.positions = kwargs.get("position_ids", args[1] if len(args) > 1 else None)

    def _before(self, i: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self not in _runs.get():
                return None  # another thread runs the same weights
            hidden = args[0] if args else kwargs["hidden_states"]
            if i == 0:
                self._start(hidden, kwargs)
            changed = self._layer(i, hidden, kwargs)
            if changed is None:
                return None
            hidden, kwargs = changed
            if args:
                return (hidden, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": hidden}

        return hook

    def _start(self, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """Layer 0: a forward begins. Find out what is new in it and whether to edit it."""
        batch, length = hidden.shape[:2]
        if batch != self.layout.batch:
            raise UserError(
                f"tokens are dropped for {self.layout.batch} prompts but the decoder runs "
                f"{batch} rows: beam search and num_return_sequences above 1 are not supported"
            )
        cache = kwargs.get("past_key_values")
        seen = int(cache.get_seq_length()) if cache is not None else 0
        layout = None
        if seen == 0:
            self.edited = False
            self.trace.cached[:] = [None] * len(self.layers)
            self.evicted = None
        if length > 1 and not self.edited:
            self._check(cache, seen)
            if len(self.layout) not in (length, seen + length):
                raise UserError(
                    f"the decoder was given {length} tokens after {seen}, but the layout has "
                    f"{len(self.layout)}: it must be of the new tokens or of all"
                )
            layout = self.layout if length == len(self.layout) else self.layout.tail(length)
            if self.positions is not None:
                axes = self.positions if self.positions.ndim == 3 else self.positions[None]
                layout = replace(layout, positions=axes.expand(-1, batch, -1))
            marking = (getattr(edit, "mark", None) for edit in self.edits.values())
            for mark in filter(None, marking):
                layout = replace(layout, marks=mark(hidden, layout))
                break
            self.edited = True
            self.trace.layouts[:] = [layout] * len(self.layers)
        self.state = Pass(seen, length, layout)

    def _check(self, cache: Any, seen: int) -> None:
        """Refuse caches whose layers cannot hold different lengths, or hold unknown ones."""
        if cache is None:
            return
        for i, layer in enumerate(cache.layers):
            if i >= self.first and (layer.is_compileable or getattr(layer, "is_sliding", False)):
                raise UserError(
                    "tokens cannot be dropped inside the LLM with a static, sliding-window or "
                    f"recurrent cache (layer {i}): use a dynamic one of full attention"
                )
            if seen == 0 or not hasattr(layer, "get_seq_length"):
                continue
            held = self.trace.cached[i]
            expected = seen if held is None else held.columns.shape[1] + seen - held.total
            if layer.get_seq_length() != expected:
                raise UserError(
                    f"the cache of layer {i} holds {layer.get_seq_length()} tokens instead of "
                    f"{expected}: pass the trace of the call that filled it as past="
                )

    def _layer(
        self, i: int, hidden: Tensor, kwargs: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]] | None:
        """What layer `i` is given instead, or None for what it was given."""
        state = self.state
        assert state is not None, "a layer ran before layer 0"
        if i < self.first:
            return None
        given = hidden
        if i in self.edits and state.layout is not None:
            with metered():
                hidden = self._edit(i, hidden, state, kwargs)
        held, mask = self.trace.cached[i], kwargs.get("attention_mask")
        whole = state.slots is None and (held is None or (mask is None and held.token is None))
        if whole:
            return None if hidden is given else (hidden, kwargs)
        now = state.columns(held)
        changed = {**kwargs, "attention_mask": state.mask(mask, now, self._is_flash())}
        if state.slots is not None:
            self.trace.cached[i] = now
            for name, value in (
                ("position_embeddings", state.rope),
                ("position_ids", state.position_ids),
            ):
                if name in kwargs:
                    changed[name] = value
        return hidden, changed

    def _is_flash(self) -> bool:
        config: Any = getattr(self.decoder, "config", None)
        return "flash" in (getattr(config, "_attn_implementation", None) or "")

    def _scores(self, i: int, hidden: Tensor, state: Pass, kwargs: dict[str, Any]) -> Tensor | None:
        """The rows that the edit before layer `i` asked for, of the keys that are new."""
        edit, layout = self.edits[i], state.layout
        assert layout is not None, "nothing to edit"
        if i in self.scores:
            scores = self.scores[i][i - 1]
            new = slice(-len(layout), None)
            is_keys = isinstance(self.rule, str) and self.rule == "keys"
            return scores[:, :, new] if is_keys else scores[..., new]
        rows = edit.rows(layout) if getattr(edit, "ahead", False) else None
        if rows is None:
            return None
        given = {
            **kwargs,
            "past_key_values": None,
            "attention_mask": ~layout.padding,
            "position_embeddings": kwargs.get("position_embeddings")
            if state.slots is None
            else state.rope,
        }
        given.pop("hidden_states", None)
        return look_ahead(self.decoder, i, rows, hidden, _heads(edit), layout=layout, **given)

    def _edit(self, i: int, hidden: Tensor, state: Pass, kwargs: dict[str, Any]) -> Tensor:
        """Run the edit before layer `i` and shorten everything that goes with the sequence."""
        layout = state.layout
        assert layout is not None
        scores = self._scores(i, hidden, state, kwargs)
        result = self.edits[i].edit(hidden, layout, scores)
        if result.hidden is not None:
            assert result.hidden.shape == hidden.shape, "merged states must have the given shape"
            hidden = result.hidden
        keep = keep_mask(result.keep, layout)
        real = ~layout.padding
        lost = (real & ~keep & ~layout.prunable).any() | ~keep[:, -1].all()
        tokens = torch.stack([keep.sum(1), real.sum(1), lost.expand(layout.batch)])
        counts, before, (text_lost, *_) = tokens.tolist()  # the one device sync of an edit
        if text_lost:
            raise ValueError(f"the edit before layer {i} drops tokens that may not be pruned")
        if counts == before:
            return hidden
        longest = max(counts)
        # Stable sorting puts the kept columns last, in order; shorter rows are filled from the
        # left with dropped ones, which are masked as padding.
        take = keep.int().argsort(dim=1, stable=True)[:, len(layout) - longest :]
        fill = None
        if min(counts) < longest:
            fill = torch.arange(longest, device=take.device) < (longest - tokens[0])[:, None]
        came = take if result.source is None else result.source.gather(1, take)
        if state.slots is None:
            state.rope = kwargs.get("position_embeddings")
            # Flash takes gaps in the position ids for the seams of packed sequences.
            state.position_ids = None if self._is_flash() else kwargs.get("position_ids")
            state.slots, state.origin = take, came
        else:
            assert state.origin is not None
            state.origin = state.origin.gather(1, came)
            state.slots = state.slots.gather(1, take)
        hidden = hidden.gather(1, take[..., None].expand(-1, -1, hidden.shape[-1]))
        state.filled = fill is not None
        shorter = layout.take(came, fill)
        positions = new_positions(result, layout, shorter, take)
        if positions is None:
            state.rope = take_rope(state.rope, came)
        else:
            shorter = replace(shorter, positions=positions)
            one_axis = positions.shape[0] == 1
            state.rope = self.decoder.rotary_emb(hidden, positions[0] if one_axis else positions)
        if state.position_ids is not None:
            state.position_ids = state.position_ids.expand(len(take), -1).gather(1, came)
        state.layout = shorter
        self.trace.layouts[i:] = [shorter] * (len(self.layers) - i)
        if getattr(self.edits[i], "evicts", False):
            self._evict(i, state, kwargs.get("past_key_values"))
        return hidden

    def _evict(self, i: int, state: Pass, cache: Any) -> None:
        """Cut the cache of the layers before `i` to the columns that are left."""
        whole = [j for j in range(1, i) if self.trace.cached[j] is None]
        if cache is None:
            return
        self.evicted = now = state.columns(None)
        for layer in (cache.layers[j] for j in whole):
            take = now.columns[:, None, :, None].to(layer.keys.device)
            for name in ("keys", "values"):
                held = getattr(layer, name)
                wide = take.expand(-1, held.shape[1], -1, held.shape[3])
                setattr(layer, name, held.gather(2, wide))
        for j in whole:
            self.trace.cached[j] = now

    def _hide_evicted(self, layer: int, call: Call) -> Tensor | None:
        """Layer 0 holds what other layers have evicted; no later token is to see it there."""
        held = self.evicted
        if self not in _runs.get() or held is None or call.query.shape[2] > 1:
            return None
        since = torch.arange(held.total, call.key.shape[2], device=held.columns.device)
        columns = torch.cat([held.columns, since.expand(len(held.columns), -1)], 1)
        real = None
        if held.token is not None:
            real = torch.ones_like(columns, dtype=torch.bool)
            real[:, : held.token.shape[1]] = held.token
        return over_columns(call, columns, real)


def _heads(edit: LayerEdit) -> Heads | None:
    return getattr(edit, "heads", None)
