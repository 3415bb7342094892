from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from tests.systems.conftest import make_map

REQUEST = Request("", torch.zeros(0, 8))


def tokens_of(features: Tensor) -> VisualTokens:
    return pack(make_map(features), lambda x, _: x.flatten(0, 2))


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_official_tokens_stay(golden, name: str) -> None:
    case = golden("vidcom2", name)
    keep = 1 - float(case["p_pruning_rate"])
    kept = build("vidcom2", {"keep": keep}).reduce(tokens_of(case["in_features"]), REQUEST)
    assert torch.equal(kept.index, case["out_mask"].flatten().nonzero()[:, 0])
    assert (
        kept.view.bincount(minlength=len(case["out_per_frame"])).tolist()
        == case["out_per_frame"].tolist()
    )
    assert len(kept) == int(case["out_count"])


def test_a_frame_unlike_the_others_keeps_more() -> None:
    features = torch.ones(5, 4, 4, 8) + 0.1 * torch.randn(5, 4, 4, 8)
    features[3] = -features[3]
    kept = build("vidcom2", {"keep": 0.25}).reduce(tokens_of(features), REQUEST)
    assert kept.view.bincount().argmax() == 3
    assert len(kept) == 20


def test_as_many_tokens_as_frames_stay_at_least() -> None:
    kept = build("vidcom2", {"keep": 1}).reduce(tokens_of(torch.randn(6, 2, 2, 8)), REQUEST)
    assert len(kept) == 6


def test_keeping_everything_changes_nothing() -> None:
    tokens = tokens_of(torch.randn(2, 3, 3, 8))
    assert build("vidcom2", {"keep": 1.0}).reduce(tokens, REQUEST) is tokens
