"""The picture and the page of kept tokens, by their pixels and their text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsight.core.reply import Flops, Reply, Timing, TokenMap, Usage
from sparsight.core.tokens import patch_boxes
from sparsight.measure.page import page_of_tokens
from sparsight.measure.panels import MOST, Panel, clock, medium_of, percent, some
from sparsight.measure.pictures import WIDTH, brightness, paint, picture_of_tokens

WHOLE = [0.0, 0.0, 1.0, 1.0]
TILES = [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]


def token_map(
    views: list[list[float]], role: tuple[str, ...], kept: list[int], side: int = 2
) -> TokenMap:
    """`side` x `side` tokens a view; those at `kept` stay through all 4 layers."""
    box = patch_boxes(torch.tensor(views), (side, side)).flatten(0, 2)
    view = torch.arange(len(views)).repeat_interleave(side * side)
    keep = torch.tensor(kept, dtype=torch.long)
    return TokenMap(
        origin="film.mp4",
        box=box,
        view=view,
        time=view.float(),
        role=role,
        kept=keep,
        kept_box=box[keep],
        kept_view=view[keep],
        kept_time=view[keep].float(),
        weight=torch.ones(len(keep)),
        layers=torch.full((len(keep),), 4),
        depth=4,
        frames=tuple(range(len(views))),
    )


def film_map(frames: int = 2, kept: tuple[int, ...] = (0, 4, 5)) -> TokenMap:
    return token_map([WHOLE] * frames, ("frame",) * frames, list(kept))


def pictures(count: int) -> Tensor:
    """White pictures, 40 x 60."""
    return torch.full((count, 40, 60, 3), 255, dtype=torch.uint8)


def only(tokens: TokenMap, count: int = 1) -> Panel:
    return medium_of((tokens, pictures(count))).panels[0]


# Panels


def test_a_film_has_a_panel_a_frame_and_its_counts():
    medium = medium_of((film_map(), pictures(2)))
    assert [(panel.caption, panel.seen, panel.kept) for panel in medium.panels] == [
        ("0.0 s", 4, 1), ("1.0 s", 4, 2),
    ]  # fmt: skip
    assert medium.counts == "8 tokens seen, 3 kept (37.5 %), 1 to 2 a frame"


def test_tiles_lie_together_on_the_picture_beside_the_thumbnail():
    tokens = token_map([WHOLE, *TILES], ("thumbnail", "tile", "tile"), [0, 5, 10])
    medium = medium_of((tokens, pictures(1)))
    assert not medium.film
    assert [(panel.caption, panel.seen, panel.kept) for panel in medium.panels] == [
        ("thumbnail", 4, 1), ("2 tiles", 8, 2),
    ]  # fmt: skip


def test_frames_that_the_tower_joins_show_the_first_of_them():
    frames = torch.stack([torch.full((40, 60, 3), value, dtype=torch.uint8) for value in range(5)])
    medium = medium_of((film_map(3), frames))
    shown = [int(panel.picture[0, 0, 0]) for panel in medium.panels if panel.picture is not None]
    assert shown == [0, 2, 4]


def test_a_view_composed_of_frames_has_no_picture():
    tokens = token_map([WHOLE] * 3, ("frame", "frame", "thumbnail"), [0, 9])
    medium = medium_of((tokens, pictures(2)))
    assert [panel.picture is None for panel in medium.panels] == [False, False, True]
    assert medium.panels[2].caption == "thumbnail"


def test_separators_are_counted_and_belong_to_no_panel():
    tokens = film_map()
    tokens = replace(tokens, view=torch.cat([tokens.view[:-1], torch.tensor([-1])]))
    tokens = replace(tokens, kept_view=torch.tensor([0, 1, -1]))
    medium = medium_of((tokens, pictures(2)))
    assert (medium.seen, medium.kept, medium.separators) == (8, 3, 1)
    assert sum(panel.kept for panel in medium.panels) == 2


def test_a_pooled_token_fills_its_box_and_a_scattered_one_its_own_cell():
    tokens = replace(film_map(1, (0, 3)), kept_box=torch.tensor([WHOLE, WHOLE]))
    panel = only(replace(tokens, weight=torch.tensor([4.0, 1.0])))
    assert panel.merged.tolist() == [True, True]
    assert panel.lit.tolist() == [WHOLE, [0.5, 0.5, 1.0, 1.0]]


def test_many_panels_are_thinned_evenly_with_both_ends():
    panels = medium_of((film_map(200, (0,)), pictures(200))).panels
    drawn = some(panels)
    assert len(drawn) == MOST
    assert (drawn[0], drawn[-1]) == (panels[0], panels[-1])


def test_numbers_in_words():
    assert (percent(0.25), percent(0.1234), percent(1.0)) == ("25 %", "12.3 %", "100 %")
    assert (clock(4.21), clock(64.2), clock(3723)) == ("4.2 s", "1:04.2", "1:02:03")


# The picture


def test_kept_cells_are_bright_dropped_ones_dim_and_late_ones_between():
    tokens = replace(film_map(1, (0, 1, 2)), layers=torch.tensor([4, 2, 1]))
    level = brightness(only(tokens), (60, 40))
    full, late, early, dropped = level[5, 5], level[5, 50], level[35, 5], level[35, 50]
    assert full == 1 > late > early > dropped == 0
    painted = np.asarray(paint(only(tokens), (60, 40)))
    assert painted[5, 5].tolist() == [255, 255, 255]
    means = [int(painted[y, x].mean()) for y, x in ((5, 5), (5, 50), (35, 5), (35, 50))]
    assert means == sorted(means, reverse=True)
    assert means[3] < 128


def test_a_merged_token_is_outlined():
    plain = np.asarray(paint(only(film_map(1, (0, 1, 2, 3))), (60, 40)))
    assert (plain == 255).all()
    tokens = replace(film_map(1, (0, 1, 2, 3)), weight=torch.tensor([3.0, 1, 1, 1]))
    painted = np.asarray(paint(only(tokens), (60, 40)))
    assert (painted[0, :30] != 255).any()
    assert (painted[21:] == 255).all()


@pytest.mark.parametrize(
    ("tokens", "count"),
    [
        (film_map(), 2),
        (film_map(90, (0, 7)), 90),
        (film_map(3, ()), 3),
        (token_map([WHOLE, *TILES], ("thumbnail", "tile", "tile"), [0, 5, 10]), 1),
        (token_map([WHOLE] * 2, ("frame", "thumbnail"), [0]), 1),
        (token_map([[-0.2, 0.0, 1.2, 1.0]], ("picture",), [0, 3]), 1),
    ],
    ids=["film", "long film", "nothing kept", "tiles", "composed view", "padded view"],
)
def test_every_kind_of_map_is_drawn(tokens: TokenMap, count: int):
    image = picture_of_tokens([(tokens, pictures(count))], "Is it red?")
    assert image.width == WIDTH
    assert 100 < image.height < 4000
    assert "kept" in page_of_tokens([(tokens, pictures(count))], REPLY)


@pytest.mark.parametrize("size", [(1, 1), (300, 4), (4, 300)])
def test_odd_shapes_are_drawn(size: tuple[int, int]):
    frames = torch.zeros(2, *size, 3, dtype=torch.uint8)
    assert picture_of_tokens([(film_map(), frames)], "x" * 500).width == WIDTH


# The page

REPLY = Reply(
    text="<b>red</b>",
    tokens=(1,),
    finish="stop",
    usage=Usage(8, 3, 2.5, 20, 1),
    timing=Timing({"encode": 0.25}, (), 0.5, 0.5),
    kv_bytes=2048,
    flops=Flops(1e9, 2e9, 0.0),
    systems=("fastervlm",),
)


class Page(HTMLParser):
    """Collects tags, links and text, so that what a reader sees can be asked for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.data = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in = "data" if ("id", "data") in attrs else tag
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._in == "data":
            self.data += data
        elif self._in not in ("style", "script"):
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._in = ""


def test_the_page_fetches_nothing():
    text = page_of_tokens([(film_map(), pictures(2))], REPLY, "What?")
    page = Page(text)
    assert page.tags.count("img") == 2
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert not re.search(r"https?://|url\(|@import|<link|<iframe", text)
    assert "default-src 'none'" in text


def test_the_page_escapes_all_that_comes_from_elsewhere():
    evil = '</script><script>alert(1)</script><img src=x onerror="x">'
    tokens = replace(film_map(), origin=evil)
    reply = replace(REPLY, text=evil, systems=(evil,))
    page = Page(page_of_tokens([(tokens, pictures(2))], reply, evil))
    assert page.tags.count("script") == 2
    assert page.tags.count("img") == 2
    assert page.text.count("alert(1)") == 5  # title, heading, answer, system, origin


def test_the_page_holds_counts_cost_and_time():
    page = Page(page_of_tokens([(film_map(), pictures(2))], REPLY, "What?"))
    for words in ("1 of 4", "2 of 4", "37.5 %", "250.0 ms", "2.0 KiB", "2.0 GFLOP", "<b>red</b>"):
        assert words in page.text


def test_the_script_is_given_every_kept_token():
    tokens = replace(film_map(), layers=torch.tensor([4, 2, 4]), weight=torch.tensor([1.0, 3, 1]))
    page = Page(page_of_tokens([(tokens, pictures(2))], REPLY))
    (medium,) = json.loads(page.data)
    assert medium["depth"] == 4
    assert [panel["layers"] for panel in medium["panels"]] == [[4], [2, 4]]
    assert [panel["merged"] for panel in medium["panels"]] == [[0], [1, 0]]
    assert medium["panels"][1]["lit"][:4] == [0, 0, 5000, 5000]
    assert 'id="layer"' in page_of_tokens([(tokens, pictures(2))], REPLY)


def test_controls_without_use_are_left_out():
    text = page_of_tokens([(film_map(), pictures(2))], REPLY)
    assert 'id="layer"' not in text
    assert 'id="outline"' not in text
