from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, feature_map, pack
from tests.systems.conftest import make_map, make_views

REQUEST = Request("", torch.zeros(0, 8))


def tokens_of(features: Tensor) -> VisualTokens:
    return pack(make_map(features), lambda x, _: x.flatten(0, 2))


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_official_tokens_stay(golden, name: str) -> None:
    case = golden("evs", name)
    keep = 1 - float(case["p_pruning_rate"])
    kept = build("evs", {"keep": keep}).reduce(tokens_of(case["in_features"]), REQUEST)
    assert torch.equal(kept.index, case["out_mask"].flatten().nonzero()[:, 0])
    assert (
        kept.view.bincount(minlength=len(case["out_per_frame"])).tolist()
        == case["out_per_frame"].tolist()
    )
    assert len(kept) == int(case["out_count"])


def test_what_moves_stays_and_what_stands_still_goes() -> None:
    features = torch.ones(4, 1, 5, 8)
    features[2, 0, 3] = torch.randn(8)  # it comes in frame 2 and is gone in frame 3
    kept = build("evs", {"keep": 7}).reduce(tokens_of(features), REQUEST)
    assert kept.index.tolist() == [0, 1, 2, 3, 4, 13, 18]


def test_the_first_frame_stays_whole_whatever_the_budget() -> None:
    kept = build("evs", {"keep": 1}).reduce(tokens_of(torch.randn(3, 2, 2, 8)), REQUEST)
    assert kept.index.tolist() == [0, 1, 2, 3]


def test_frames_of_different_sizes_are_compared_place_by_place() -> None:
    """A tower may leave out patches itself: the nearest earlier frame that has one counts."""
    features = torch.randn(3, 1, 4, 8)
    features[2] = features[1] = features[0]
    features[2, 0, 1] = -features[0, 0, 1]
    present = torch.tensor([0, 1, 2, 3, 6, 8, 9])
    tokens = tokens_of(features).take(present)
    kept = build("evs", {"keep": 5}).reduce(tokens, REQUEST)
    assert kept.index.tolist() == [0, 1, 2, 3, 9]


def test_a_picture_passes_unchanged() -> None:
    features = feature_map(torch.randn(2, 2, 2, 8), make_views(2, (2, 2), "tile"))
    tokens = pack(features, lambda x, _: x.flatten(0, 2))
    assert build("evs", {"keep": 0.25}).reduce(tokens, REQUEST) is tokens


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(UserError, match="keep=99 is more than the 8 tokens"):
        build("evs", {"keep": 99}).reduce(tokens_of(torch.randn(2, 2, 2, 8)), REQUEST)
