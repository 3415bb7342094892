"""Towers may leave out patches of a film: its frames then hold different numbers of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from tests.systems.conftest import make_map

REQUEST = Request("", torch.zeros(0, 8))
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("evs", {"keep": 0.5}),
    ("vidcom2", {"keep": 0.4}),
    ("dycoke", {}),
    ("dycoke", {"compat": True}),
    ("flashvid", {"score": "none"}),
    ("flashvid", {"score": "none", "keep": 0.05}),
    ("flashvid", {"score": "none", "alpha": 0.0}),
    ("flashvid", {"score": "none", "alpha": 1.0}),
    ("prunevid", {}),
    ("prunevid", {"static": 0.0}),
    ("prunevid", {"keep": 0.0}),
]


def film(frames: int) -> VisualTokens:
    """A film that changes slowly, 4 x 5 tokens a frame."""
    x = torch.randn(1, 4, 5, 8) + 0.2 * torch.randn(frames, 4, 5, 8).cumsum(0)
    return pack(make_map(x), lambda x, _: x.flatten(0, 2))


@pytest.mark.parametrize(("name", "knobs"), SETTINGS)
@pytest.mark.parametrize("frames", [1, 2, 3, 7, 11])
def test_only_tokens_that_are_there_come_out_in_order(
    name: str, knobs: dict[str, Any], frames: int
) -> None:
    whole = film(frames)
    there = torch.rand(frames, 20) > 0.4
    there[0] = there[:, 0] = True
    for tokens in (whole, whole.take(there.flatten().nonzero()[:, 0])):
        kept = build(name, knobs).reduce(tokens, REQUEST)
        assert 0 < len(kept) <= len(tokens)
        assert kept.index.diff().gt(0).all()
        assert torch.isin(kept.index, tokens.index).all()
        assert kept.embeds.isfinite().all()
