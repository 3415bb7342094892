from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import FeatureMap, VisualTokens, feature_map
from sparsight.ops.frame_budget import capped_shares, frame_budgets, sharpened_shares
from tests.systems.conftest import make_map, make_views

LISTED = 'Step 1: yes\nStep 2: ["cup", "end"]\nStep 3: ["cup"]'


def shared(features: Tensor, share: Tensor, newline: Tensor | None = None) -> FeatureMap:
    """A film's features (V, h, w, D) whose frames are worth `share` (V,)."""
    made = make_map(features)
    return replace(made, views=replace(made.views, share=share), separator=newline)


def connect(features: FeatureMap, **knobs: Any) -> VisualTokens:
    tokens = build("quota", knobs).connect(features)
    assert tokens is not None
    return tokens


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_budgets_and_tokens_equal_the_official_ones(golden: Any, case: str) -> None:
    made = golden("27-quota", case)
    side, total = int(made["p_side"]), int(made["p_enhance_total"] * made["p_enhance_tokens"])
    version = f"v{int(made['p_version'])}"
    share = sharpened_shares(made["in_probability"])
    torch.testing.assert_close(share, made["out_weights"], atol=1e-12, rtol=0)
    most = None if version == "v1" else side * side
    if most is not None:
        used = capped_shares(share, most / total)
        torch.testing.assert_close(used, made["out_weights_used"], atol=1e-12, rtol=0)
    budgets = frame_budgets(share, total, most)
    assert torch.equal(budgets, made["out_budget"])

    x = made["in_features"].unflatten(1, (side, side))
    features = shared(x, share, made.get("in_newline"))
    tokens = connect(features, keep=total, version=version, newline="none")
    torch.testing.assert_close(tokens.embeds, made["out_tokens"], atol=1e-5, rtol=0)
    kept = budgets.nonzero()[:, 0]
    shapes = made["out_shapes"]
    counts = shapes[:, 0] * shapes[:, 1].clamp(min=1)
    assert torch.equal(tokens.view, kept.repeat_interleave(counts))
    if "out_tokens_with_newlines" in made:
        rows = connect(features, keep=total, version=version, newline="rows")
        want = made["out_tokens_with_newlines"]
        torch.testing.assert_close(rows.embeds, want, atol=1e-5, rtol=0)
        assert int((~rows.prunable).sum()) == int(shapes[:, 0].sum())
        assert torch.equal(rows.embeds[rows.prunable], tokens.embeds)


# ---- one frame's worth -------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4", "v5"])
def test_every_version_keeps_to_the_budget_and_the_order_of_frames(version: str) -> None:
    share = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    tokens = connect(shared(torch.randn(4, 8, 8, 3), share), keep=60, version=version)
    counts = tokens.view.bincount(minlength=4).tolist()
    # sixteen tokens are what a frame has once it was halved; what is cut off goes to the others
    assert counts[1] == 0
    assert 0 < sum(counts) <= 60
    assert all(a >= b for a, b in [(counts[0], counts[2]), (counts[2], counts[3])])
    assert bool((tokens.view.diff() >= 0).all())
    assert len(tokens) == tokens.total == int(tokens.index[-1]) + 1
    assert tokens.time.tolist() == tokens.view.tolist()  # a frame a second
    assert bool((tokens.box[:, 2:] > tokens.box[:, :2]).all())


def test_equal_frames_are_pooled_as_llava_video_does() -> None:
    x = torch.randn(4, 27, 27, 2)
    tokens = connect(shared(x, torch.full((4,), 0.25)), keep=4 * 196)
    pooled = torch.nn.functional.interpolate(
        x.permute(0, 3, 1, 2), size=[14, 14], mode="bilinear"
    ).permute(0, 2, 3, 1)
    torch.testing.assert_close(tokens.embeds, pooled.flatten(0, 2))
    assert tokens.weight.tolist() == pytest.approx([729 / 196] * len(tokens))
    torch.testing.assert_close(tokens.box[0], torch.tensor([0, 0, 1 / 14, 1 / 14]))


def test_one_frame_may_take_everything_and_is_blown_up_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    features = shared(torch.randn(3, 4, 4, 2), torch.tensor([0.0, 1.0, 0.0]))
    with caplog.at_level(logging.WARNING, logger="sparsight"):
        tokens = connect(features, keep=100)
    assert (len(tokens), tokens.view.unique().tolist()) == (100, [1])
    assert "16 tokens is blown up to 100" in caplog.text
    caplog.clear()
    capped = connect(features, keep=100, cap=True)
    assert torch.equal(capped.embeds, features.features[:].flatten(0, 2))  # room for all there is
    alone = connect(features, keep=40, cap=True)
    assert (len(alone), alone.view.unique().tolist()) == (16, [1])
    assert caplog.text == ""


@pytest.mark.parametrize("version", ["v2", "v3", "v5"])
def test_a_share_of_everything_changes_nothing(version: str) -> None:
    x = torch.randn(3, 4, 6, 2)
    tokens = connect(shared(x, torch.tensor([0.8, 0.15, 0.05])), keep=1.0, version=version)
    assert torch.equal(tokens.embeds, x.flatten(0, 2))
    assert (
        tokens.coords.tolist() == [[t, r, c] for t in range(3) for r in range(4) for c in range(6)]
        or version == "v3"
    )


def test_a_share_is_of_what_the_frames_have() -> None:
    tokens = connect(shared(torch.randn(4, 4, 4, 2), torch.full((4,), 0.25)), keep=0.25)
    assert tokens.view.bincount().tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize(("newline", "count"), [("none", 0), ("end", 1), ("rows", 6)])
def test_newlines_are_those_of_the_family(newline: str, count: int) -> None:
    mark = torch.tensor([7.0, 7.0])
    features = shared(torch.randn(3, 4, 4, 2), torch.full((3,), 1 / 3), mark)
    tokens = connect(features, keep=12, newline=newline)
    assert int((~tokens.prunable).sum()) == count
    assert torch.equal(tokens.embeds[~tokens.prunable], mark.expand(count, 2))
    assert bool((tokens.view[~tokens.prunable] == -1).all())
    without = connect(replace(features, separator=None), keep=12, newline=newline)
    assert bool(without.prunable.all())


def test_a_picture_is_left_to_the_family() -> None:
    assert build("quota", {}).connect(make_map(torch.randn(1, 4, 4, 2))) is None


def test_further_features_and_signals_are_made_smaller_alike() -> None:
    x = torch.randn(2, 4, 4, 2)
    views = replace(make_views(2, (4, 4)), share=torch.tensor([0.5, 0.5]))
    signals = {"score": torch.arange(32.0).view(2, 4, 4, 1)}
    tokens = connect(feature_map(x, views, signals, extra=(x * 2,)), keep=8, version="v2")
    torch.testing.assert_close(tokens.extra[0], tokens.embeds * 2)
    assert tokens.signals["score"][:, 0].tolist()[:4] == [2.5, 4.5, 10.5, 12.5]


# ---- asking ------------------------------------------------------------------------------------


@dataclass
class Oracle:
    """A model that is as sure of a frame as it is bright, and says what it is told to."""

    reply: str | Exception = "Step 1: no"
    texts: list[str] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def answer(self, text: str, frames: Tensor | None = None, *, max_tokens: int = 128) -> str:
        self.asked.append((text, frames))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def probability(self, frames: Tensor, texts: Sequence[str], option: str = "A") -> Tensor:
        self.texts += texts
        self.options.append(option)
        self.sizes.append(len(frames))
        sure = frames[:, 0, 0].double() / 255  # a color for each text
        return sure[:, : len(texts)]

    def other(self, model: str) -> Oracle:
        self.names.append(model)
        return self


def film(light: Sequence[int], fps: float = 1.0) -> Clip:
    pixels = torch.tensor(light, dtype=torch.uint8).view(-1, 1, 1, 1)
    return Clip.from_frames(pixels.expand(-1, 2, 2, 3), fps=fps)


def select(clip: Clip, oracle: Oracle, text: str = "how many cups ?", **knobs: Any) -> Any:
    request = Request(text, torch.zeros(0, 4), viewer=oracle)
    return build("quota", knobs).select(clip, request)


def test_frames_worth_no_token_are_never_encoded() -> None:
    chosen = select(film([0, 200, 1, 100, 0]), Oracle(), keep=100)
    assert chosen.frames == [1, 3]
    torch.testing.assert_close(
        chosen.share, torch.tensor([40000, 10000]).double() / 50001, atol=1e-9, rtol=0
    )
    # with a cap, or a share of what the frames have, that is known only behind the tower
    for knobs in ({"keep": 100, "cap": True}, {"keep": 0.5}, {"keep": 100, "version": "v3"}):
        assert select(film([0, 200, 1, 100, 0]), Oracle(), **knobs).frames == [0, 1, 2, 3, 4]


def test_the_times_of_all_frames_are_told_where_that_is_wanted() -> None:
    light = film([0, 200, 1, 100, 0], fps=2.0)
    assert select(light, Oracle(), keep=100).told == ""
    for knobs in ({"keep": 100}, {"keep": 0.5}):
        assert select(light, Oracle(), times=True, **knobs).told == (
            "The video lasts for 2.50 seconds, and 5 frames are uniformly sampled from it. These "
            "frames are located at 0.00s,0.50s,1.00s,1.50s,2.00s.Please answer the following "
            "questions related to this video."
        )


def test_where_no_frame_is_likely_all_share_alike() -> None:
    chosen = select(film([0] * 4), Oracle())
    assert (chosen.frames, chosen.share.tolist()) == ([0, 1, 2, 3], [0.25] * 4)


def test_longer_films_give_more_frames() -> None:
    light = [100] * 4000
    assert len(select(film(light), Oracle(), frames=6, more=4).frames) == 10
    assert len(select(film(light, fps=2.0), Oracle(), frames=6, more=4).frames) == 8
    oracle = Oracle()
    assert len(select(film(light), oracle).frames) == 96 + int(4000 / 3600 * 64)
    assert max(oracle.sizes) <= 64


def test_objects_of_the_question_are_asked_for() -> None:
    oracle = Oracle(LISTED)
    select(film([9, 9]), oracle)
    [(text, frames)] = oracle.asked
    assert "how many cups ?" in text
    assert frames is None
    [question] = oracle.texts
    assert "any object of cup? A. yes" in question
    assert "how many" not in question
    assert oracle.options == ["A"]


@pytest.mark.parametrize("reply", ["Step 1: no", "", UserError("too long")])
def test_where_there_are_none_the_question_itself_is_asked(reply: Any) -> None:
    oracle = Oracle(reply)
    select(film([9, 9]), oracle)
    assert "how many cups ?" in oracle.texts[0]
    assert "sufficient information" in oracle.texts[0]


def test_a_question_may_be_asked_as_it_is_or_by_a_rule_on_words() -> None:
    oracle = Oracle(LISTED)
    select(film([9, 9]), oracle, names="none")
    select(film([9, 9]), oracle, names="words")
    assert oracle.asked == []
    assert "how many cups ?" in oracle.texts[0]
    assert "any object of cups?" in oracle.texts[1]


def test_words_are_asked_for_one_by_one_and_the_surest_counts() -> None:
    oracle = Oracle('Step 1: yes\nStep 3: ["red cup", "plates"]')
    colors = torch.tensor([[9, 90, 255], [60, 6, 255]], dtype=torch.uint8)
    clip = Clip.from_frames(colors[:, None, None].expand(2, 2, 2, 3), fps=1.0)
    chosen = select(clip, oracle, answer="word")
    assert oracle.texts == ["Is there a red cup?", "Is there plates?"]
    assert oracle.options == ["yes"]
    power = torch.tensor([90.0, 60.0]).double() ** 2
    torch.testing.assert_close(chosen.share, power / power.sum())
    select(clip, oracle, answer="word", names="none")
    assert oracle.texts[2].endswith("Answer yes or no.")
    assert "how many cups ?" in oracle.texts[2]


def test_another_model_looks_while_the_own_one_thinks() -> None:
    oracle = Oracle(LISTED)
    select(film([9, 9]), oracle, scorer="some/where")
    assert sorted(oracle.names) == ["self", "some/where"]


# ---- what it is for ----------------------------------------------------------------------------


SIDE, CODES = 8, 12


def read(tokens: VisualTokens, codes: Tensor) -> int:
    """Which of the codes (n, SIDE, SIDE) the needle's frame shows, marked by its last channel."""
    of_needle = tokens.embeds[:, 1] > 0.5
    if not bool(of_needle.any()):
        return -1
    rows = len(tokens.coords[of_needle][:, 1].unique())
    grid = tokens.embeds[of_needle, 0].view(1, 1, rows, -1)
    seen = torch.nn.functional.interpolate(grid, (SIDE, SIDE), mode="bilinear")[0, 0]
    return int((codes - seen).square().flatten(1).sum(1).argmin())


def accuracy(frames: int, exponent: float) -> float:
    """How often a needle's pattern is read at 128 tokens a film, with a noisy witness."""
    right, tries = 0, 16
    for seed in range(tries):
        random = torch.Generator().manual_seed(seed)
        coarse = torch.randn(1, CODES, SIDE // 2, SIDE // 2, generator=random)
        codes = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="nearest")[0]
        needle, code = (int(torch.randint(0, n, (), generator=random)) for n in (frames, CODES))
        x = torch.zeros(frames, SIDE, SIDE, 2)
        x[needle] = torch.stack([codes[code], torch.ones(SIDE, SIDE)], -1)
        x[..., 0] += torch.randn(frames, SIDE, SIDE, generator=random)
        sure = torch.rand(frames, generator=random) * 0.2
        sure[needle] = 0.9
        share = sharpened_shares(sure, exponent)
        right += read(connect(shared(x, share), keep=128, version="v2"), codes) == code
    return right / tries


def test_a_needle_is_read_where_tokens_follow_the_question() -> None:
    gaps = []
    for frames in (4, 16, 48):
        even, quota = accuracy(frames, 0.0), accuracy(frames, 2.0)
        assert quota >= even
        gaps.append(quota - even)
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[2] > 0.3
