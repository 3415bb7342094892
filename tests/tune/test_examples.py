"""Which questions are shown, and what is drawn of them."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.core.clip import Clip
from sparsight.core.plan import Plan
from sparsight.core.reply import TokenMap
from sparsight.core.tokens import patch_boxes
from sparsight.media import Access, Limits
from sparsight.tune.examples import Shown, differing, examples_of
from sparsight.vlm.pipeline import VLM
from tests.bench.fakes import item
from tests.tune.small import pictures

SIDE = 4  # tokens of a view, across and down


class Keeper:
    """Keeps the first `keep` tokens of every view and answers with its own word."""

    def __init__(self, keep: int, word: str, frames: str | None = None) -> None:
        self.keep, self.word = keep, word
        self.plan = Plan(frames=frames)
        self.limits, self.access = Limits(), Access()
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ask(self, clips: list[Clip], question: str, **options: Any) -> Any:
        self.asked.append((question, options))
        return SimpleNamespace(text=self.word, maps=tuple(map(self._map, clips)))

    def _map(self, clip: Clip) -> TokenMap:
        views = len(clip)
        box = patch_boxes(torch.tensor([[0.0, 0, 1, 1]]).expand(views, 4), (SIDE, SIDE))
        box = box.flatten(0, 2)
        view = torch.arange(views).repeat_interleave(SIDE * SIDE)
        kept = (torch.arange(len(view)) % (SIDE * SIDE) < self.keep).nonzero()[:, 0]
        film = clip.kind == "film"
        return TokenMap(
            origin=clip.origin,
            box=box,
            view=view,
            time=view.float(),
            role=("frame" if film else "picture",) * views,
            kept=kept,
            kept_box=box[kept],
            kept_view=view[kept],
            kept_time=view[kept].float(),
            weight=torch.ones(len(kept)),
            layers=torch.full((len(kept),), 4),
            depth=4,
            frames=tuple(range(views)) if film else (),
        )


def white(height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def film(frames: int) -> Clip:
    pixels = torch.full((frames, 48, 64, 3), 255, dtype=torch.uint8)
    return Clip.from_frames(pixels, fps=1.0, origin="film.mp4")


def records(**rights: list[bool]) -> dict[str, list[Record]]:
    return {
        label: [Record(str(place), "color", right=right) for place, right in enumerate(of_plan)]
        for label, of_plan in rights.items()
    }


def opened(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return image.convert("RGB")


def shown(medium: Any, few: Keeper | None = None) -> tuple[Any, Keeper, Keeper]:
    """One example of a medium: what keeps everything is right, what keeps little is wrong."""
    every, some = Keeper(SIDE * SIDE, "yes"), few or Keeper(2, "no")
    asked = [item("0", media=(medium,), frames="all")]
    found = examples_of(
        {"full": every, "few": some},  # type: ignore[dict-item]
        asked, 3, records=records(full=[True], few=[False]), max_tokens=7,
    )  # fmt: skip
    assert len(found) == 1
    return found[0], every, some


# Which questions


def items(tasks: str) -> list[Item]:
    return [item(str(place), task=task) for place, task in enumerate(tasks)]


def test_only_what_the_plans_answer_differently_is_chosen():
    asked = records(a=[True, True, False, False], b=[True, False, False, True])
    assert differing(items("xxxx"), asked, 9) == [1, 3]
    assert differing(items("xxxx"), asked, 1) == [1]
    assert differing(items("xxxx"), records(a=[True] * 4, b=[True] * 4), 9) == []


def test_the_most_even_split_comes_first():
    asked = records(a=[True, True], b=[False, True], c=[False, False], d=[False, False])
    assert differing(items("xx"), asked, 9) == [1, 0]


def test_the_tasks_take_turns():
    asked = records(a=[True] * 5, b=[False] * 5)
    assert differing(items("xxxyz"), asked, 9) == [0, 3, 4, 1, 2]


# What is shown of them


def test_an_example_holds_every_reply_and_whether_it_is_right():
    found, every, some = shown(white())
    assert (found.question, found.answer) == ("0?", "yes")
    told = {label: (reply.text, reply.right) for label, reply in found.replies.items()}
    assert told == {"full": ("yes", True), "few": ("no", False)}
    assert found.replies["few"].counts == "16 tokens seen, 2 kept (12.5 %)"
    options = {"frames": "all", "max_tokens": 7, "temperature": 0}
    assert every.asked == some.asked == [("0?", options)]


def test_an_answer_of_several_calls_is_shown_without_tokens():
    calls = Keeper(2, "no")
    calls.ask = lambda clips, question, **options: SimpleNamespace(text="no", maps=())  # type: ignore[method-assign]
    found, _, _ = shown(white(), calls)
    assert found.replies["few"] == Shown("no", False, b"", "")
    assert found.picture


def test_a_plan_with_frames_of_its_own_is_not_given_the_items():
    _, every, some = shown(film(3), Keeper(2, "no", frames="uniform:2"))
    assert every.asked[0][1]["frames"] == "all"
    assert some.asked[0][1]["frames"] is None


def test_kept_tokens_are_bright_dropped_ones_dim_and_the_picture_whole():
    found, *_ = shown(white())
    whole = np.asarray(opened(found.picture))
    kept = np.asarray(opened(found.replies["few"].kept))
    assert whole.shape == kept.shape
    side = len(kept) // SIDE
    middle = side // 2
    assert kept[middle, middle].tolist() == [255, 255, 255]
    assert kept[middle, side + middle].tolist() == [255, 255, 255]
    assert kept[middle, 2 * side + middle].mean() < 128
    assert whole[middle, 2 * side + middle].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("size", "shape"), [((20, 60), 3.0), ((300, 10), 1 / 30), ((9, 9), 1.0)])
def test_pictures_keep_their_shape(size: tuple[int, int], shape: float):
    image = opened(shown(white(*size))[0].picture)
    assert image.width / image.height == pytest.approx(shape, rel=0.1)


def test_a_film_shows_its_frames_side_by_side_and_few_of_many():
    few, many = shown(film(2))[0], shown(film(30))[0]
    assert opened(few.picture).width > 2 * opened(few.picture).height
    assert many.replies["few"].counts.endswith("2 a frame; 8 of 30 drawn")
    assert "drawn" not in few.replies["few"].counts
    wide = opened(many.picture)
    assert (wide.width, wide.height) == pytest.approx((640, 242), abs=4)


def test_several_media_and_media_made_on_demand_are_all_drawn():
    made = []

    def later() -> Clip:
        made.append(1)
        return film(1)

    asked = [item("0", media=(white(), later))]
    found = examples_of(
        {"full": Keeper(16, "yes"), "few": Keeper(2, "no")},  # type: ignore[dict-item]
        asked, 1, records=records(full=[True], few=[False]), max_tokens=7,
    )  # fmt: skip
    assert made == [1]
    assert found[0].replies["few"].counts.count("tokens seen") == 2


def test_what_failed_is_told_and_not_asked_again():
    every, broken = Keeper(16, "yes"), Keeper(2, "no")
    failed = [Record("0", "color", error="too long")]
    found = examples_of(
        {"broken": broken, "full": every},  # type: ignore[dict-item]
        [item("0", media=(white(),))], 1,
        records={**records(full=[True]), "broken": failed}, max_tokens=7,
    )  # fmt: skip
    assert broken.asked == []
    told = found[0].replies["broken"]
    assert (told.text, told.right, told.kept) == ("failed: too long", False, b"")
    assert opened(found[0].picture).width > 0


def test_the_same_questions_give_the_same_bytes():
    one, other = shown(film(3))[0], shown(film(3))[0]
    assert one == other


def test_a_real_model_is_asked_and_drawn(vlm: VLM):
    plans = {"full": vlm, "lean": vlm.using("uniform", keep=4)}
    asked = records(full=[True], lean=[False])
    found = examples_of(plans, pictures(1), 1, records=asked, max_tokens=2)
    assert opened(found[0].replies["lean"].kept).size == opened(found[0].picture).size
    told = {label: re.findall(r"\d+", reply.counts) for label, reply in found[0].replies.items()}
    assert told["full"][0] == told["full"][1] == told["lean"][0]
    assert 4 <= int(told["lean"][1]) < int(told["full"][1])
