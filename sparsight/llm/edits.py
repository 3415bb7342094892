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
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from sparsight.core.errors import UserError
from sparsight.llm.attention import Heads, Rows, Scores, layers_of, look_ahead, probe
from sparsight.llm.layout import Layout

#: Where the kept tokens of an edit stand from its layer on:
#:   "keep"      at their positions (gaps stay)
#:   "renumber"  counted on without gaps from the row's first token
#:   "average"   at the mean position of the tokens merged into them (`Edit.group`)
#:   (P, B, L) tensor: at these positions, which may be fractions.
Positions = Literal["keep", "renumber", "average"] | Tensor


@dataclass(frozen=True)
class Edit:
    """What an edit does to the sequence it was shown.

    keep       which tokens stay: a (B, L) bool mask, (B, K) long columns, or one long tensor of
               columns a row (rows may keep different counts). Order is kept whatever is given.
    hidden     (B, L, D) what the kept columns hold from now on (merging); None leaves them
    positions  where the kept tokens stand; decoding goes on after the unpruned length in any case
    group      (B, L) long, the kept column each token was merged into, -1 for none
    """

    keep: Tensor | Sequence[Tensor]
    hidden: Tensor | None = None
    positions: Positions = "keep"
    group: Tensor | None = None


class LayerEdit(Protocol):
    """An edit of the sequence before decoder layer `layer` (1 or later), at prefill.

    Two attributes it may have: `heads` says how the heads of its scores are put together (see
    `attention.probe`), and `ahead = True` asks for the rows layer `layer` itself would compute on
    the sequence it is about to be given, instead of those of the layer before.
    """

    @property
    def layer(self) -> int: ...

    def rows(self, layout: Layout) -> Rows | None:
        """The attention rows of layer `layer - 1` it needs, as `attention.probe` takes them.

        Asked once with the whole layout when the call is opened (None: never any), and then with
        the layout at the layer.
        """
        ...

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """Edit the (B, L, D) hidden states; `scores` (B, H, R, L) are the rows it asked for."""
        ...


@dataclass(frozen=True)
class Columns:
    """The part of the unpruned sequence whose keys a layer holds, in order.

    columns  (B, N) long  columns of the unpruned sequence
    token    (B, N) bool  false where a row shorter than the longest holds filling; None: nowhere
    total    columns there were in the unpruned sequence; later ones are all held
    """

    columns: Tensor
    token: Tensor | None
    total: int


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


@dataclass
class _Pass:
    """One forward of the decoder, followed from layer 0 on."""

    seen: int  # columns the cache held before
    length: int  # columns that are new
    layout: Layout | None  # of the new columns; None when nothing is to be edited
    slots: Tensor | None = None  # (B, L) which new columns are left; None: all
    filled: bool = False  # whether rows keep different counts, so that some hold filling
    rope: Any = None  # rotary embeddings of the tokens that are left
    position_ids: Tensor | None = None
    # Layers between two edits share what is computed for them. Keys are ids of objects that the
    # entry holds on to, so that no other object can get the same id.
    known: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)

    def columns(self, held: Columns | None) -> Columns:
        """What a layer attends to now, if its cache held `held` before (None: everything)."""
        key = id(held), id(self.slots)
        if key not in self.known:
            self.known[key] = self._columns(held), held, self.slots
        return self.known[key][0]

    def _columns(self, held: Columns | None) -> Columns:
        total = self.seen + self.length
        if held is None:
            assert self.slots is not None, "nothing was dropped"
            batch, device = len(self.slots), self.slots.device
            old = torch.arange(self.seen, device=device).expand(batch, -1)
        else:
            batch, device = len(held.columns), held.columns.device
            since = torch.arange(held.total, self.seen, device=device).expand(batch, -1)
            old = torch.cat([held.columns, since], 1)
        if self.slots is None:
            new = torch.arange(self.seen, total, device=device).expand(batch, -1)
        else:
            new = self.slots + self.seen
        columns = torch.cat([old, new], 1)
        token = None
        if self.filled or (held is not None and held.token is not None):
            token = torch.ones_like(columns, dtype=torch.bool)
            if held is not None and held.token is not None:
                token[:, : held.token.shape[1]] = held.token
            if self.filled:
                assert self.layout is not None, "only edited passes are filled"
                token[:, old.shape[1] :] = ~self.layout.padding
        return Columns(columns, token, total)

    def mask(self, mask: Any, now: Columns, flash: bool) -> Any:
        """The model's mask cut to what a layer attends to."""
        key = id(mask), id(now)
        if key not in self.known:
            length = self.length if self.slots is None else self.slots.shape[1]
            self.known[key] = _cut_mask(mask, now, self.slots, length, flash), mask, now
        return self.known[key][0]


_runs: ContextVar[tuple[_Run, ...]] = ContextVar("sparsight_edits", default=())


@contextmanager
def edited(
    decoder: nn.Module,
    edits: Sequence[LayerEdit],
    layout: Layout,
    past: Trace | None = None,
) -> Iterator[Trace]:
    """Apply edits during one `generate` or forward of the model that `decoder` is part of.

    Args:
        decoder: the module with `.layers` and `.rotary_emb`, e.g. `model.model.language_model`.
        edits: at most one a layer, in any order.
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
        if run.decoder is decoder and state is not None and state.slots is not None:
            return Surviving(state.slots, state.length)
    return None


class _Run:
    """The hooks of one `edited` call and what they remember between layers and forwards."""

    def __init__(
        self,
        decoder: nn.Module,
        edits: Sequence[LayerEdit],
        layout: Layout,
        past: Trace | None,
    ) -> None:
        self.decoder: Any = decoder
        self.layers = layers_of(decoder)
        self.layout = layout
        depth = len(self.layers)
        self.edits: dict[int, LayerEdit] = {}
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
        self.first = min([*self.edits, *shortened], default=depth)
        self.state: _Pass | None = None
        self.edited = False
        self.positions: Tensor | None = None
        self.rule: Rows | None = None
        self.scores: dict[int, Scores] = {}

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
        for i, edit in self.edits.items():
            if edit.rows(self.layout) is not None and not getattr(edit, "ahead", False):
                rows = {i - 1: self._rows(edit)}
                reading = probe(self.decoder, rows, _heads(edit), layout=self._layout_now)
                self.scores[i] = stack.enter_context(reading)

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
            self.edited = True
            self.trace.layouts[:] = [layout] * len(self.layers)
        self.state = _Pass(seen, length, layout)

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

    def _scores(
        self, i: int, hidden: Tensor, state: _Pass, kwargs: dict[str, Any]
    ) -> Tensor | None:
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

    def _edit(self, i: int, hidden: Tensor, state: _Pass, kwargs: dict[str, Any]) -> Tensor:
        """Run the edit before layer `i` and shorten everything that goes with the sequence."""
        layout = state.layout
        assert layout is not None
        scores = self._scores(i, hidden, state, kwargs)
        result = self.edits[i].edit(hidden, layout, scores)
        if result.hidden is not None:
            assert result.hidden.shape == hidden.shape, "merged states must have the given shape"
            hidden = result.hidden
        keep = _keep_mask(result.keep, layout)
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
        if state.slots is None:
            state.rope = kwargs.get("position_embeddings")
            # Flash takes gaps in the position ids for the seams of packed sequences.
            state.position_ids = None if self._is_flash() else kwargs.get("position_ids")
            state.slots = take
        else:
            state.slots = state.slots.gather(1, take)
        hidden = hidden.gather(1, take[..., None].expand(-1, -1, hidden.shape[-1]))
        state.filled = fill is not None
        shorter = layout.take(take, fill)
        positions = _new_positions(result, layout, shorter, take)
        if positions is None:
            state.rope = _take_rope(state.rope, take)
        else:
            shorter = replace(shorter, positions=positions)
            one_axis = positions.shape[0] == 1
            state.rope = self.decoder.rotary_emb(hidden, positions[0] if one_axis else positions)
        if state.position_ids is not None:
            state.position_ids = state.position_ids.expand(len(take), -1).gather(1, take)
        state.layout = shorter
        self.trace.layouts[i:] = [shorter] * (len(self.layers) - i)
        return hidden


def _heads(edit: LayerEdit) -> Heads | None:
    return getattr(edit, "heads", None)


def _keep_mask(keep: Tensor | Sequence[Tensor], layout: Layout) -> Tensor:
    """Any form of `Edit.keep` as a (B, L) bool mask without padding."""
    mask = torch.zeros_like(layout.padding)
    if not isinstance(keep, Tensor):
        assert len(keep) == layout.batch, "one list of columns a row"
        for row, columns in zip(mask, keep, strict=True):
            row[columns] = True
    elif keep.dtype == torch.bool:
        mask |= keep
    else:
        mask.scatter_(1, keep, True)
    return mask & ~layout.padding


def _new_positions(edit: Edit, layout: Layout, shorter: Layout, take: Tensor) -> Tensor | None:
    """The (P, B, L') positions of the kept tokens, or None where they keep their own."""
    policy, positions = edit.positions, layout.positions
    if isinstance(policy, Tensor):
        return policy.gather(2, take.expand(len(policy), -1, -1))
    if policy == "keep":
        return None
    if positions is None or shorter.positions is None:
        raise UserError(f"positions={policy!r} needs a decoder with one rotary embedding")
    if policy == "renumber":
        rank = (~shorter.padding).cumsum(1) - 1
        last = torch.iinfo(shorter.positions.dtype).max
        first = shorter.positions.masked_fill(shorter.padding, last).amin(-1, keepdim=True)
        return first + rank.clamp_min(0)
    assert policy == "average", f"unknown positions {policy!r}"
    assert edit.group is not None, "averages need Edit.group"
    axes = len(positions)
    # Tokens of no group are added to a column past the end, which is cut off.
    length = len(layout)
    group = torch.where(edit.group < 0, length, edit.group).expand(axes, -1, -1)
    zeros = positions.new_zeros((axes, layout.batch, length + 1), dtype=torch.float32)
    total = zeros.scatter_add(2, group, positions.float())[..., :length]
    count = zeros.scatter_add(2, group, torch.ones_like(group, dtype=torch.float32))[..., :length]
    mean = torch.where(count > 0, total / count.clamp_min(1), positions.float())
    return mean.gather(2, take.expand(axes, -1, -1))


def _take_rope(rope: Any, take: Tensor) -> Any:
    """Cut rotary embeddings, a tuple of (B or 1, L, A), to the kept columns."""
    if rope is None:
        return None
    return tuple(
        part.expand(len(take), -1, -1).gather(1, take[..., None].expand(-1, -1, part.shape[-1]))
        for part in rope
    )


def _cut_mask(mask: Any, now: Columns, queries: Tensor | None, length: int, flash: bool) -> Any:
    """A mask over the unpruned sequence, cut to the queries and keys of a shortened layer.

    Args:
        mask: None (causal), (B, K) for Flash, or (B, 1, L, K) bool or additive.
        now: the columns the layer attends to; the last `length` are the queries.
        queries: (B, length) which of the L rows are left; None for all.
    """
    token, columns = now.token, now.columns
    if mask is None:
        if token is None or flash:
            return token
        own = columns[:, -length:, None]
        seen = (columns[:, None] <= own) & token[:, None]
        return (seen | (columns[:, None] == own))[:, None]
    if not isinstance(mask, Tensor):
        raise UserError("tokens cannot be dropped inside the LLM under flex_attention: use sdpa")
    if mask.ndim == 2:
        cut = mask.gather(1, columns)
        return cut if token is None else cut & token
    mask = mask.expand(len(columns), -1, -1, -1)
    heads, keys = mask.shape[1], mask.shape[3]
    if queries is not None:
        mask = mask.gather(2, queries[:, None, :, None].expand(-1, heads, -1, keys))
    cut = mask.gather(3, columns[:, None, None].expand(-1, heads, length, -1))
    if token is None:
        return cut
    # Filling sees itself, lest a row without any key turn into NaN.
    own = columns[:, None, None] == columns[:, None, -length:, None]
    if cut.dtype == torch.bool:
        return cut & token[:, None, None] | own
    hidden = torch.finfo(cut.dtype).min
    return cut.masked_fill(~token[:, None, None], hidden).masked_fill(own, 0.0)
