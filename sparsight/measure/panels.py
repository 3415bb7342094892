"""What there is to draw of a reply's token maps: one panel a frame, or a kind of view.

N source tokens of a panel, K of them kept. Boxes are x0, y0, x1, y1 in shares of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsight.core.reply import TokenMap

#: A token map and the pictures of its medium: uint8 (F, H, W, 3), the one picture or the frames
#: `TokenMap.frames` of a film.
Drawing = tuple[TokenMap, Tensor]

MOST = 64  # panels that are drawn of one medium


@dataclass(frozen=True)
class Panel:
    """One picture with the tokens that were made of it.

    picture   uint8 (H, W, 3); None where a view was composed of several frames
    caption   "0:04.2", "picture", "thumbnail", "4 tiles"
    time      in seconds; None for a still picture
    cells     (N, 4) area of each source token
    own       (K, 4) the kept token's own cell
    box       (K, 4) the area it stands for
    weight    (K,)   how many source tokens it stands for
    layers    (K,)   how many layers of the LLM it lived through
    depth     layers of the LLM
    """

    picture: NDArray[np.uint8] | None
    caption: str
    time: float | None
    cells: NDArray[np.float32]
    own: NDArray[np.float32]
    box: NDArray[np.float32]
    weight: NDArray[np.float32]
    layers: NDArray[np.int64]
    depth: int

    @property
    def seen(self) -> int:
        return len(self.cells)

    @property
    def kept(self) -> int:
        return len(self.own)

    @property
    def merged(self) -> NDArray[np.bool_]:
        """(K,) True where a token stands for more than its own cell."""
        return (self.weight > 1.01) | (_area(self.box) > 1.5 * _area(self.own))

    @property
    def lit(self) -> NDArray[np.float32]:
        """(K, 4) the area that a kept token lights up.

        A pooled token fills its box. One merged of cells far apart has a box that holds much
        else, so just its own cell is lit.
        """
        fills = self.weight * _area(self.own) >= 0.5 * _area(self.box)
        return np.where(fills[:, None], self.box, self.own)


@dataclass(frozen=True)
class Medium:
    """The panels of one medium and its counts, separators included."""

    origin: str
    panels: tuple[Panel, ...]
    seen: int
    kept: int
    separators: int  # newline tokens among the kept ones
    film: bool
    depth: int
    dropped_inside: bool  # some kept tokens did not live through all layers of the LLM

    @property
    def share(self) -> float:
        return self.kept / self.seen if self.seen else 0.0

    @property
    def merged(self) -> bool:
        return any(bool(panel.merged.any()) for panel in self.panels)

    @property
    def counts(self) -> str:
        """The counts in words: "512 tokens seen, 128 kept (25 %), 16 a frame"."""
        words = f"{self.seen:,} tokens seen, {self.kept:,} kept ({percent(self.share)})"
        if self.film:
            drawn = [panel.kept for panel in self.panels if panel.picture is not None]
            low, high = min(drawn, default=0), max(drawn, default=0)
            words += f", {low} a frame" if low == high else f", {low} to {high} a frame"
        return words


def medium_of(drawing: Drawing) -> Medium:
    """Group the tokens of one map into panels.

    A film has a panel for every view that is a frame, and one for views composed of several
    frames. A picture has a panel for the whole view, and one on which all its tiles lie.
    """
    tokens, pictures = drawing
    assert pictures.ndim == 4, tuple(pictures.shape)
    film = "frame" in tokens.role
    panels = _film_panels(tokens, pictures) if film else _picture_panels(tokens, pictures)
    return Medium(
        origin=tokens.origin,
        panels=tuple(panel for panel in panels if panel.seen or panel.kept),
        seen=len(tokens.view),
        kept=len(tokens.kept),
        separators=int((tokens.kept_view < 0).sum()),
        film=film,
        depth=tokens.depth,
        dropped_inside=bool((tokens.layers < tokens.depth).any()),
    )


def some(panels: Sequence[Panel]) -> list[Panel]:
    """At most `MOST` panels, evenly over all of them, first and last included."""
    if len(panels) <= MOST:
        return list(panels)
    return [panels[round(place * (len(panels) - 1) / (MOST - 1))] for place in range(MOST)]


def percent(share: float) -> str:
    """A share as people write it: "25 %", "2.5 %"."""
    value = f"{100 * share:.1f}".removesuffix(".0")
    return f"{value} %"


def clock(seconds: float) -> str:
    """Seconds of a film: "4.2 s", "1:04.2", "1:02:03"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds, 1), 60)
    if minutes < 60:
        return f"{minutes:.0f}:{rest:04.1f}"
    return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{rest:02.0f}"


def _film_panels(tokens: TokenMap, pictures: Tensor) -> list[Panel]:
    frames = [view for view, role in enumerate(tokens.role) if role == "frame"]
    joined = -(-len(pictures) // len(frames))  # frames that the tower joins to one view
    panels = []
    for place, view in enumerate(frames):
        times = tokens.time[tokens.view == view]
        at = float(times[0]) if len(times) else 0.0
        picture = pictures[min(place * joined, len(pictures) - 1)]
        panels.append(_panel(tokens, [view], picture, clock(at), at))
    composed = [view for view, role in enumerate(tokens.role) if role != "frame"]
    for view in composed:
        panels.append(_panel(tokens, [view], None, tokens.role[view], None))
    return panels


def _picture_panels(tokens: TokenMap, pictures: Tensor) -> list[Panel]:
    panels = []
    for role in dict.fromkeys(("thumbnail", "picture", *tokens.role)):
        views = [view for view, of_view in enumerate(tokens.role) if of_view == role]
        caption = f"{len(views)} {role}s" if len(views) > 1 else role
        panels.append(_panel(tokens, views, pictures[0], caption, None))
    return panels


def _panel(
    tokens: TokenMap,
    views: Sequence[int],
    picture: Tensor | None,
    caption: str,
    time: float | None,
) -> Panel:
    of_source = np.isin(tokens.view.numpy(), views)
    of_kept = np.isin(tokens.kept_view.numpy(), views)
    source = tokens.box.float().numpy()
    return Panel(
        picture=None if picture is None else picture.cpu().numpy(),
        caption=caption,
        time=time,
        cells=source[of_source],
        own=source[tokens.kept.numpy()[of_kept]],
        box=tokens.kept_box.float().numpy()[of_kept],
        weight=tokens.weight.float().numpy()[of_kept],
        layers=tokens.layers.long().numpy()[of_kept],
        depth=tokens.depth,
    )


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
