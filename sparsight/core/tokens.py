"""What the vision side hands on: feature maps per view and packed visual tokens.

Shape suffixes: V views, h w patch rows and columns of a view, C tower width, D LLM width,
N tokens of one medium, S channels of a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

#: What becomes of positions after tokens were removed: "keep" leaves every token at its original
#: position (gaps stay); "renumber" counts on without gaps.
PositionPolicy = Literal["keep", "renumber"]


@dataclass(frozen=True)
class Views:
    """The views of one medium, ready for the vision tower.

    `inputs` holds the tower's arguments for this medium alone, under the names that the
    checkpoint's own processor uses. `kind` says which placeholder stands for it in the prompt.
    `boxes` (V, 4) gives the area of the picture each view covers as x0, y0, x1, y1 in shares of
    the picture (beyond 0..1 where a view holds padding), `times` (V,) its time in seconds and
    `roles` what it is: "frame", "picture", "tile", "thumbnail".
    `grid` is the (h, w) grid of features of one view as it enters the connector. `share` (V,) is
    the share of the visual tokens that the system which chose the frames gave each view.
    """

    kind: Literal["image", "video"]
    inputs: Mapping[str, Tensor]
    boxes: Tensor
    times: Tensor
    roles: tuple[str, ...]
    grid: tuple[int, int]
    size: tuple[int, int]  # height and width of the picture or frame in pixels
    alone: bool = True  # the only picture of its prompt (any-res families tile just those)
    share: Tensor | None = None

    def __len__(self) -> int:
        return len(self.roles)


@dataclass(frozen=True)
class FeatureMap:
    """Patch features of one medium, view by view.

    `features` (V, h, w, C); `box` (V, h, w, 4) the area of the picture under each patch; `time`
    (V, h, w) seconds; `weight` (V, h, w) how many patches a feature stands for. `signals` maps a
    need's key to (V, h, w, S). `extra` are further feature sets aligned with `features`
    (DeepStack), each (V, h, w, D). A map whose tower merged patches has h = 1.

    Once projected, `raw` (V, h, w, C) are the features before the projector, and `projector` maps
    any rows (..., C) to (..., D); both None where features are not projected one by one.
    `separator` (D,) is the newline embedding of the family's own packing, where it has one.
    """

    features: Tensor
    box: Tensor
    time: Tensor
    weight: Tensor
    views: Views
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    extra: tuple[Tensor, ...] = ()
    raw: Tensor | None = None
    projector: Callable[[Tensor], Tensor] | None = None
    separator: Tensor | None = None

    def with_features(self, features: Tensor) -> FeatureMap:
        return replace(self, features=features)

    @property
    def is_grid(self) -> bool:
        """Whether every view still holds the full grid its connector expects."""
        return tuple(self.features.shape[1:3]) == tuple(self.views.grid)


@dataclass(frozen=True)
class VisualTokens:
    """The packed visual tokens of one medium, each with where it came from.

    embeds    (N, D)  what the LLM is given
    time      (N,)    seconds
    box       (N, 4)  x0 y0 x1 y1 in shares of the picture
    view      (N,)    the view it comes from; -1 for newline and separator tokens
    weight    (N,)    how many source tokens it stands for
    prunable  (N,)    False for newline and separator tokens, which no reducer may take
    index     (N,)    its place in the unreduced sequence of this medium, strictly increasing
    coords    (N, 3)  (t, h, w) in the grid, for families with M-RoPE
    signals   what systems asked for, name -> (N, S)
    extra     further embeddings aligned with the tokens (DeepStack), each (N, D)
    group     (N,) long, the part of the medium that a token belongs to, for systems inside the LLM
              that choose part by part; None: its view
    total     tokens of this medium before any reduction
    projector tower features (n, C) -> embeddings (n, D), for what is merged before the projector;
              None where features are not projected one by one
    """

    embeds: Tensor
    time: Tensor
    box: Tensor
    view: Tensor
    weight: Tensor
    prunable: Tensor
    index: Tensor
    coords: Tensor
    views: Views
    total: int
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    extra: tuple[Tensor, ...] = ()
    score: Tensor | None = None
    group: Tensor | None = None
    positions: PositionPolicy = "keep"
    projector: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return self.embeds.shape[0]

    def _map(self, rows: Callable[[Tensor], Tensor]) -> VisualTokens:
        plain: dict[str, Any] = {name: rows(getattr(self, name)) for name in _ROWS}
        return replace(
            self,
            **plain,
            signals={name: rows(value) for name, value in self.signals.items()},
            extra=tuple(rows(value) for value in self.extra),
            score=None if self.score is None else rows(self.score),
            group=None if self.group is None else rows(self.group),
        )

    def take(self, keep: Tensor) -> VisualTokens:
        """The tokens at `keep` (K,), which are put in their original order."""
        keep = keep.sort().values
        return self._map(lambda value: value[keep])

    def placed(self, source: Tensor, places: Tensor) -> VisualTokens:
        """The tokens at `source` (K,), each standing where the token at `places` (K,) stood.

        For methods that put tokens in an order of their own: the result is in the order of the
        places, and its index is theirs; all else comes from the sources.
        """
        order = places.argsort()
        moved = self._map(lambda value: value[source[order]])
        return replace(moved, index=self.index[places[order]])

    def keep_prunable(self, keep: Tensor) -> VisualTokens:
        """Keep `keep` (K,) of the prunable tokens and every token that may not be pruned."""
        mask = ~self.prunable
        mask[keep] = True
        return self.take(mask.nonzero()[:, 0])

    def merge(self, group: Tensor) -> VisualTokens:
        """Average the tokens of each group into one, in the order of the groups' first members.

        Args:
            group: (N,) long, the group of each token; -1 drops it. A group of one is untouched.

        A merged token has the weight-weighted mean of its members' embeddings, signals, times
        and coordinates, the union of their boxes, the sum of their weights, and the index and
        view of its first member.
        """
        member = (group >= 0).nonzero()[:, 0]
        if len(member) == 0:
            return self.take(member)
        _, compact = group[member].unique(return_inverse=True)
        count = int(compact.max()) + 1
        first = torch.full((count,), len(self), device=group.device).scatter_reduce(
            0, compact, member, reduce="amin"
        )
        order = first.argsort()
        rank = torch.empty_like(order)
        rank[order] = torch.arange(count, device=group.device)
        slot, first = rank[compact], first[order]
        sizes = torch.zeros(count, device=group.device).index_add(
            0, slot, torch.ones_like(slot, dtype=torch.float32)
        )
        weight = self.weight.float()[member]
        total = torch.zeros(count, device=group.device).index_add(0, slot, weight)

        def mean(value: Tensor) -> Tensor:
            rows = value[member]
            wide = rows.float() * weight.view(-1, *[1] * (rows.ndim - 1))
            summed = torch.zeros(count, *rows.shape[1:], device=rows.device).index_add(
                0, slot, wide
            )
            averaged = (summed / total.view(-1, *[1] * (rows.ndim - 1))).to(value.dtype)
            # A lone token must stay what it was, bit for bit.
            lone = (sizes == 1).view(-1, *[1] * (rows.ndim - 1))
            return torch.where(lone, value[first], averaged)

        def extreme(value: Tensor, how: str) -> Tensor:
            index = slot[:, None].expand(-1, value.shape[1])
            start = value[first]
            return start.scatter_reduce(0, index, value[member], reduce=how)

        box = torch.cat([extreme(self.box[:, :2], "amin"), extreme(self.box[:, 2:], "amax")], 1)
        kept = self.take(first)
        return replace(
            kept,
            embeds=mean(self.embeds),
            time=mean(self.time),
            box=box,
            weight=total.to(self.weight.dtype),
            coords=mean(self.coords.float()).round().to(self.coords.dtype),
            signals={name: mean(value) for name, value in self.signals.items()},
            extra=tuple(mean(value) for value in self.extra),
            score=None if self.score is None else mean(self.score),
        )


_ROWS = ("embeds", "time", "box", "view", "weight", "prunable", "index", "coords")


def patch_boxes(view_boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """The area under each patch: view boxes (V, 4) cut into an (h, w) grid -> (V, h, w, 4)."""
    height, width = grid
    x = torch.linspace(0, 1, width + 1, dtype=torch.float32)
    y = torch.linspace(0, 1, height + 1, dtype=torch.float32)
    x0, y0, x1, y1 = view_boxes.float()[:, :, None, None].unbind(1)
    columns = x0 + (x1 - x0) * x
    rows = y0 + (y1 - y0) * y[:, None]
    shape = (len(view_boxes), height, width)
    return torch.stack(
        [
            columns[..., :-1].expand(shape),
            rows[:, :-1].expand(shape),
            columns[..., 1:].expand(shape),
            rows[:, 1:].expand(shape),
        ],
        dim=-1,
    )


def feature_map(
    features: Tensor,
    views: Views,
    signals: Mapping[str, Tensor] | None = None,
    extra: tuple[Tensor, ...] = (),
    box: Tensor | None = None,
    weight: Tensor | None = None,
) -> FeatureMap:
    """A `FeatureMap` of (V, h, w, C) features whose boxes and times follow from `views`."""
    shape = features.shape[:3]
    device = features.device
    if box is None:
        box = patch_boxes(views.boxes, (shape[1], shape[2])).to(device)
    if weight is None:
        weight = torch.ones(shape, device=device)
    time = views.times.to(device, torch.float32)[:, None, None].expand(shape)
    return FeatureMap(features, box, time, weight, views, dict(signals or {}), extra)


def pack(
    features: FeatureMap,
    layout: Callable[[Tensor, Tensor | None], Tensor],
    separator: Tensor | None = None,
    coords: Tensor | None = None,
) -> VisualTokens:
    """Pack a projected feature map into a sequence, and carry every token's origin along.

    Args:
        features: the map, already projected to the LLM's width: features (V, h, w, D).
        layout: the family's own packing of (V, h, w, channels) features and a (channels,)
            separator into an (N, channels) sequence. It must treat channels alike (pooling,
            stitching, unpadding, newlines do), so that running it on the boxes, times and
            signals says where each token came from, by the very code that packs the features.
        separator: (D,) the newline embedding that `layout` inserts, if any.
        coords: (N, 3) grid coordinates for M-RoPE; zeros where the family has none.
    """
    embeds = layout(features.features, separator)
    shape = features.features.shape[:3]
    device = features.features.device
    view = torch.arange(shape[0], device=device).view(-1, 1, 1).expand(shape)
    plain = [features.box, features.time[..., None], features.weight[..., None], view[..., None]]
    names = list(features.signals)
    sources = plain + [features.signals[name] for name in names]
    channels = torch.cat([source.float() for source in sources], -1)
    marker = torch.full((channels.shape[-1],), float("nan"), device=device)
    rows = layout(channels, marker)
    separators = rows[:, 6].isnan()
    box, time, weight, of_view = rows[:, :4], rows[:, 4], rows[:, 5], rows[:, 6]
    latest = features.views.times.max().to(device) if len(features.views) else 0.0
    signals, start = {}, 7
    for name in names:
        width = features.signals[name].shape[-1]
        signals[name] = rows[:, start : start + width].nan_to_num(0.0)
        start += width
    count = embeds.shape[0]
    return VisualTokens(
        embeds=embeds,
        time=torch.where(separators, latest, time),
        box=box.nan_to_num(0.0),
        view=torch.where(separators, -1.0, of_view).round().long(),
        weight=weight.nan_to_num(1.0),
        prunable=~separators,
        index=torch.arange(count, device=device),
        coords=coords.to(device) if coords is not None else torch.zeros(count, 3).long().to(device),
        views=features.views,
        total=count,
        signals=signals,
        extra=tuple(
            layout(more, None if separator is None else torch.zeros_like(separator))
            for more in features.extra
        ),
        projector=features.projector,
    )
