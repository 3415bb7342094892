from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import sparsight.systems
from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.media.sampling import uniform
from sparsight.modules.finders import Found
from sparsight.systems.frames import tstar

sparsight.systems.load()

NEEDLE, HAY = 200, 30  # the brightness of frames that show something, and of the others
QUESTION = "where is the needle ?"


def film(frames: int, needle: Sequence[int], fps: float = 1.0) -> Clip:
    """A film that is bright where the needle is."""
    light = torch.full((frames, 1, 1, 1), HAY, dtype=torch.uint8)
    light[list(needle)] = NEEDLE
    return Clip.from_frames(light.expand(-1, 4, 6, 3), fps=fps)


@dataclass
class Oracle:
    """A model that sees the needle, and says what it is told to."""

    reply: str | Exception = ""
    noise: float = 0.0
    asked: list[tuple[str, int]] = field(default_factory=list)
    looked: int = 0
    names: list[str] = field(default_factory=list)

    def answer(self, text: str, frames: Tensor | None = None, *, max_tokens: int = 128) -> str:
        self.asked.append((text, 0 if frames is None else len(frames)))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def probability(self, frames: Tensor, texts: Sequence[str], option: str = "A") -> Tensor:
        assert option == "yes"
        assert all(text.startswith("Is there") for text in texts)
        self.looked += len(frames)
        bright = (frames[:, 0, 0, 0] == NEEDLE).double()
        sees = torch.tensor(["needle" in text for text in texts]).double()
        noise = torch.rand(len(frames), len(texts), dtype=torch.float64) * self.noise
        return (0.9 * bright[:, None] * sees).maximum(noise)

    def other(self, model: str) -> Oracle:
        self.names.append(model)
        return self


def asking(viewer: Any, question: str = QUESTION) -> Request:
    return Request(question, torch.zeros(0, 4), viewer=viewer)


def select(clip: Clip, viewer: Any, question: str = QUESTION, **knobs: Any) -> list[int]:
    return build("tstar", knobs).select(clip, asking(viewer, question))


@pytest.mark.parametrize("start", [0, 33, 83])
def test_a_needle_as_long_as_a_stride_is_found_in_the_first_round(start: int) -> None:
    oracle = Oracle()
    clip = film(96, range(start, start + 6))  # 96 moments in a grid of 16: every sixth is shown
    chosen = select(clip, oracle, names="words", budget=1.0)
    assert oracle.looked == 16
    assert set(chosen) & set(range(start, start + 6))
    assert len(chosen) == 8
    assert chosen == sorted(set(chosen))


@pytest.mark.parametrize(("budget", "rounds"), [(1.0, 7), (0.5, 4), (0.01, 1), (0.0, 0)])
def test_no_more_is_looked_at_than_the_budget_rounded_up_to_a_grid(
    budget: float, rounds: int
) -> None:
    oracle = Oracle()
    select(film(100, []), oracle, names="words", budget=budget)
    assert oracle.looked == 16 * rounds == 16 * math.ceil(100 * budget / 16)


def test_where_nothing_is_found_the_frames_are_spread() -> None:
    chosen = select(film(160, []), Oracle(), names="words")
    assert torch.tensor(chosen).div(40, rounding_mode="floor").bincount().tolist() == [2] * 4


def test_a_needle_in_a_long_film_is_found_more_often_than_by_chance() -> None:
    hits = {"tstar": 0, "uniform": 0}
    for seed in range(6):
        torch.manual_seed(seed)
        start = int(torch.randint(0, 990, ()))
        needle = set(range(start, start + 5))
        oracle = Oracle(noise=0.2)
        clip = film(1000, sorted(needle))
        chosen = select(clip, oracle, names="words", seed=seed)
        assert len(chosen) == 8
        assert oracle.looked <= 512 < 1000
        hits["tstar"] += bool(needle & set(chosen))
        hits["uniform"] += bool(needle & set(uniform(1000, 8)))
    assert hits["tstar"] >= 4 > 1 >= hits["uniform"]


def test_the_same_seed_chooses_the_same_frames() -> None:
    clip = film(400, range(207, 210))
    knobs: dict[str, Any] = {"names": "words", "budget": 0.3, "pick": "draw"}
    first, again, other = (select(clip, Oracle(), seed=seed, **knobs) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 8


def test_moments_are_seconds_whatever_the_frame_rate() -> None:
    clip = film(96 * 5, range(33 * 5, 39 * 5), fps=5.0)
    chosen = select(clip, Oracle(), names="words")
    assert all(frame % 5 == 0 for frame in chosen)
    assert set(chosen) & set(range(33 * 5, 39 * 5))
    fine = select(clip, Oracle(), names="words", rate=2.5)
    assert any(frame % 5 for frame in fine)


@pytest.mark.parametrize("frames", [1, 7, 8])
def test_a_film_that_needs_no_search_is_not_searched(frames: int) -> None:
    assert select(film(frames, []), None) == list(range(frames))


@pytest.mark.parametrize("frames", [9, 13, 17])
def test_a_film_that_fills_no_grid_is_searched_whole(frames: int) -> None:
    oracle = Oracle()
    chosen = select(film(frames, [frames - 1]), oracle, names="words", budget=1.0)
    assert len(chosen) == 8
    if frames < 16:
        assert oracle.looked == frames
        assert frames - 1 in chosen


# ---- what is looked for ------------------------------------------------------------------------


def test_the_model_names_the_objects_after_a_look_at_eight_frames() -> None:
    oracle = Oracle("1. Needle\n2. hay, barn")
    texts: list[Sequence[str]] = []
    plain = oracle.probability
    oracle.probability = lambda frames, names, option: (  # type: ignore[method-assign]
        texts.append(names) or plain(frames, names, option)  # type: ignore[func-returns-value]
    )
    chosen = select(film(96, range(40, 46)), oracle, question="what is it about ?")
    [(text, shown)] = oracle.asked
    assert "what is it about ?" in text
    assert shown == 8
    assert [word in " ".join(texts[0]) for word in ("needle", "hay", "barn")] == [True] * 3
    assert set(chosen) & set(range(40, 46))


@pytest.mark.parametrize("reply", ["a needle", "", UserError("the prompt is too long")])
def test_where_the_model_names_nothing_the_questions_nouns_are_taken(reply: Any) -> None:
    oracle = Oracle(reply)
    chosen = select(film(96, range(40, 46)), oracle)
    assert set(chosen) & set(range(40, 46))
    assert oracle.looked == 16


def test_a_question_that_names_nothing_spreads_the_frames() -> None:
    oracle = Oracle()
    assert select(film(96, [50]), oracle, question="what is in it ?") == uniform(96, 8)
    assert select(film(96, [50]), oracle, question="") == uniform(96, 8)
    assert oracle.looked == 0
    assert len(oracle.asked) == 1  # an empty question is not asked about


def test_a_cue_is_worth_half_and_ends_no_search() -> None:
    oracle = Oracle("thimble\nneedle")
    chosen = select(film(96, range(40, 46)), oracle, budget=0.4)
    assert oracle.looked == 48  # the thimble is never found
    assert set(chosen) & set(range(40, 46))


def test_another_model_is_asked_where_one_is_named() -> None:
    oracle = Oracle("needle\nhay")
    select(film(96, [50]), oracle, scorer="some/where")
    assert set(oracle.names) == {"some/where"}


# ---- a detector --------------------------------------------------------------------------------


@dataclass
class Detector:
    """Finds bright areas in grids, and is told how sure it is of a single frame."""

    alone: Callable[[int], float] = lambda _: 0.9
    tiled: bool = True
    grids: list[tuple[int, ...]] = field(default_factory=list)
    singles: int = 0

    def find(self, pictures: Tensor, names: Sequence[str]) -> list[Found]:
        assert names == ["needle"]
        [picture] = pictures
        if picture.shape[:2] == tstar.ALONE:
            self.singles += 1
            bright = torch.tensor([[0.0, 0, 600, 285]] if picture[9, 9, 0] > 100 else [])
            sure = self.alone(self.singles)
        else:
            self.grids.append(tuple(picture.shape[:2]))
            height, width = tstar.CELL
            rows, columns = (picture[::height, ::width, 0] > 100).nonzero().unbind(1)
            corner = torch.stack([columns * width, rows * height], 1)
            bright = torch.cat([corner, corner + torch.tensor([width, height])], 1).float()
            sure = 0.4
        bright = bright.view(-1, 4)
        return [Found(bright, torch.zeros(len(bright)).long(), torch.full((len(bright),), sure))]


def detected(clip: Clip, detector: Detector, monkeypatch: Any, **knobs: Any) -> list[int]:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tstar, "load_detector", lambda *args: calls.append(args) or detector)
    chosen = select(clip, Oracle(), names="words", detector="a/detector", **knobs)
    assert calls == [("a/detector", "cpu", 0.005)]
    return chosen


def test_a_detector_sees_grids_and_then_single_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector()
    chosen = detected(film(96, range(33, 45)), detector, monkeypatch)  # two cells show it
    assert detector.grids == [(4 * 95, 4 * 200)]
    assert detector.singles == 1  # the first is enough
    assert set(chosen) & set(range(33, 45))


def test_what_is_not_confirmed_alone_is_looked_for_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = Detector(alone=lambda count: 0.1 if count < 3 else 0.9)
    detected(film(96, range(33, 51)), detector, monkeypatch)  # three cells
    assert (len(detector.grids), detector.singles) == (1, 3)
    detector = Detector(alone=lambda _: 0.5)
    detected(film(96, range(33, 39)), detector, monkeypatch, confidence=0.5, budget=0.3)
    assert len(detector.grids) == 2  # as sure as the threshold is not above it


def test_a_closer_look_sets_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    system = build("tstar", {"names": "words", "budget": 0.1})
    clip = film(96, range(36, 42))
    detector = Detector(alone=lambda _: 0.05)
    search = system.search(clip, list(range(96)), ["needle"], [], detector)
    assert float(search.score[36]) == pytest.approx(0.05)
    assert float(search.score[37]) == pytest.approx(0.2)  # spread from the grid's 0.4


def test_a_short_film_makes_a_smaller_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector()
    chosen = detected(film(10, [9]), detector, monkeypatch, budget=1.0)
    assert detector.grids == [(3 * 95, 4 * 200)]
    assert 9 in chosen


def test_a_grid_is_two_numbers() -> None:
    with pytest.raises(UserError, match="must be two numbers"):
        build("tstar", {"grid": (4,)})
