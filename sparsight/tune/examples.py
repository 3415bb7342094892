"""Questions that plans answer differently, each with the tokens that each plan kept, drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.runner import frames_of
from sparsight.measure.panels import Medium, Panel, medium_of
from sparsight.measure.pictures import BACKGROUND, TEXT, paint
from sparsight.media import load

if TYPE_CHECKING:
    from sparsight.core.clip import Clip
    from sparsight.core.reply import Reply
    from sparsight.vlm.pipeline import VLM

_WIDTH, _TALLEST = 640, 480  # pixels of a sheet, and of one panel on it
_GAP = 4
_MOST = 8  # panels on a sheet

Painter = Callable[[Panel, tuple[int, int]], Image.Image]


class Shown(NamedTuple):
    """What a plan answered, whether that is right, the kept tokens as a PNG (empty: nothing to
    draw), and how many they are."""

    text: str
    right: bool
    kept: bytes
    counts: str = ""


@dataclass(frozen=True)
class Example:
    """A question about `picture` (a PNG of what was seen), and for each plan what it answered.
    `model`: who was asked, where several models are compared."""

    question: str
    answer: str
    picture: bytes
    replies: Mapping[str, Shown]
    model: str = ""


def examples_of(
    vlms: Mapping[str, VLM],
    items: Sequence[Item],
    count: int,
    *,
    records: Mapping[str, Sequence[Record]],
    max_tokens: int,
) -> list[Example]:
    """Ask again what the plans answered differently, and draw what each of them kept.

    Args:
        vlms: label -> the model under a plan; the first one's frames are shown as the picture.
        items: what was asked.
        count: how many examples at most; fewer where fewer items are answered differently.
        records: label -> what came of every item, in the items' order; for every label of `vlms`.
        max_tokens: of the longest answer, as when the records were made.
    """
    asked = {label: records[label] for label in vlms}
    found = []
    for place in differing(items, asked, count):
        errors = {label: of_plan[place].error for label, of_plan in asked.items()}
        found.append(_example(vlms, items[place], errors, max_tokens))
    return found


def differing(
    items: Sequence[Item], records: Mapping[str, Sequence[Record]], count: int
) -> list[int]:
    """Where the items stand on which the plans disagree, of each task in turn, the most even
    splits first.

    An item that all plans answer rightly, or none does, shows nothing of them.
    """
    by_task: dict[str, list[tuple[int, int]]] = {}
    for place, item in enumerate(items):
        right = sum(of_plan[place].right for of_plan in records.values())
        split = min(right, len(records) - right)
        if split:
            by_task.setdefault(item.task, []).append((-split, place))
    turns = chain.from_iterable(zip_longest(*map(sorted, by_task.values())))
    return [pair[1] for pair in turns if pair is not None][:count]


def _example(
    vlms: Mapping[str, VLM], item: Item, errors: Mapping[str, str | None], max_tokens: int
) -> Example:
    """What failed when the records were made is not asked again."""
    clips = _clips(next(iter(vlms.values())), item)
    picture = b""
    replies = {}
    for label, vlm in vlms.items():
        if errors[label] is not None:
            replies[label] = Shown(f"failed: {errors[label]}", False, b"")
            continue
        frames = frames_of(vlm, item)
        reply = vlm.ask(clips, item.question, frames=frames, max_tokens=max_tokens, temperature=0)
        media = _media(clips, reply)
        picture = picture or _sheet(media, _plain)
        told = Shown(reply.text, item.right(reply.text), _sheet(media, paint), _counts(media))
        replies[label] = told
    return Example(item.question, item.answer, picture, replies)


def _clips(vlm: VLM, item: Item) -> list[Clip]:
    return [load(source, limits=vlm.limits, policy=vlm.access) for source in item.sources()]


def _counts(media: Sequence[Medium]) -> str:
    words = [medium.counts for medium in media]
    panels = sum(len(medium.panels) for medium in media)
    return "; ".join([*words, f"{_MOST} of {panels} drawn"] if panels > _MOST else words)


def _media(clips: Sequence[Clip], reply: Reply) -> list[Medium]:
    """What can be drawn; an answer of several calls has no tokens of its own."""
    if not reply.maps:
        return []
    return [
        medium_of((tokens, clip.frames(tokens.frames or (0,))))
        for clip, tokens in zip(clips, reply.maps, strict=True)
    ]


# ---- drawing -----------------------------------------------------------------------------------


def _sheet(media: Sequence[Medium], painter: Painter) -> bytes:
    """The panels of all media as one PNG, evenly thinned where they are many."""
    panels = _thinned([panel for medium in media for panel in medium.panels])
    if not panels:
        return b""
    columns = 1 if len(panels) == 1 else 2 if len(panels) <= 4 else 4
    width = (_WIDTH - _GAP * (columns - 1)) // columns
    drawn = [_captioned(panel, painter(panel, _fitting(panel, width))) for panel in panels]
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [max(image.height for image in row) for row in rows]
    across = max(sum(image.width for image in row) + _GAP * (len(row) - 1) for row in rows)
    sheet = Image.new("RGB", (across, sum(heights) + _GAP * (len(rows) - 1)), BACKGROUND)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for image in row:
            sheet.paste(image, (left, top))
            left += image.width + _GAP
        top += height + _GAP
    content = io.BytesIO()
    # 256 colours look the same here and make the page a third as large.
    sheet.quantize(256, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


def _thinned(panels: Sequence[Panel]) -> list[Panel]:
    if len(panels) <= _MOST:
        return list(panels)
    return [panels[round(place * (len(panels) - 1) / (_MOST - 1))] for place in range(_MOST)]


def _fitting(panel: Panel, width: int) -> tuple[int, int]:
    """Pixels (width, height) of a panel of at most `width` and `_TALLEST`, its shape kept."""
    if panel.picture is None:
        return width, width
    height, across = panel.picture.shape[:2]
    scale = min(width / across, _TALLEST / height)
    return max(1, round(scale * across)), max(1, round(scale * height))


def _plain(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """The picture of a panel as it is; a view composed of several has none."""
    if panel.picture is None:
        return Image.new("RGB", size, BACKGROUND)
    return Image.fromarray(panel.picture).resize(size, Image.Resampling.LANCZOS)


def _captioned(panel: Panel, image: Image.Image) -> Image.Image:
    """A panel with its caption in a corner: the time of a frame, the kind of a view."""
    ImageDraw.Draw(image).text(
        (6, image.height - 6), panel.caption, TEXT, anchor="ls", font_size=15,
        stroke_width=2, stroke_fill=BACKGROUND,
    )  # fmt: skip
    return image
