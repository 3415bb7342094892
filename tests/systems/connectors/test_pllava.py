from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from tests.systems.conftest import make_map


def projected(case: dict[str, Tensor]) -> Tensor:
    hidden = functional.gelu(functional.linear(case["in_features"], case["in_w1"], case["in_b1"]))
    out = functional.linear(hidden, case["in_w2"], case["in_b2"])
    return out.unflatten(1, tuple(case["p_frame_shape"].tolist()))


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_official_tokens(golden, name: str) -> None:
    case = golden("08-pllava", name)
    shape = tuple(case["p_pooling_shape"].tolist())
    pllava = build("pllava", {"shape": shape, "frames": int(case["p_num_frames"])})
    tokens = pllava.connect(make_map(projected(case)))
    torch.testing.assert_close(tokens.embeds[None], case["out_tokens"], atol=1e-5, rtol=0)
    assert len(tokens) == shape[0] * shape[1] * shape[2]


def test_pooling_to_the_same_shape_changes_nothing() -> None:
    features = torch.randn(4, 3, 5, 2)
    tokens = build("pllava", {"shape": (4, 3, 5), "frames": 4}).connect(make_map(features))
    assert torch.equal(tokens.embeds, features.flatten(0, 2))


def test_a_picture_equals_a_film_of_its_copies() -> None:
    picture = torch.randn(1, 6, 6, 3)
    pllava = build("pllava", {"shape": (4, 3, 3), "frames": 8})
    film = make_map(picture.expand(8, -1, -1, -1))
    assert torch.equal(pllava.connect(make_map(picture)).embeds, pllava.connect(film).embeds)


def test_short_films_are_repeated_in_place() -> None:
    features = torch.arange(3.0).view(3, 1, 1, 1)
    tokens = build("pllava", {"shape": (8, 1, 1), "frames": 8}).connect(make_map(features))
    assert tokens.embeds[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_pooling_equals_a_triple_loop() -> None:
    features = torch.randn(5, 7, 6, 2)
    tokens = build("pllava", {"shape": (2, 3, 4), "frames": 5}).connect(make_map(features))
    got = tokens.embeds.view(2, 3, 4, 2)

    def span(i: int, size: int, bins: int) -> slice:
        return slice(i * size // bins, -(-(i + 1) * size // bins))

    for t in range(2):
        for row in range(3):
            for column in range(4):
                cell = features[span(t, 5, 2), span(row, 7, 3), span(column, 6, 4)]
                torch.testing.assert_close(got[t, row, column], cell.flatten(0, 2).mean(0))


def test_high_norm_outliers_are_smoothed() -> None:
    features = torch.randn(4, 8, 8, 16)
    features[0, 2, 2] *= 100
    before = features.flatten(0, 2).norm(dim=-1)
    after = build("pllava", {"shape": (4, 4, 4), "frames": 4}).connect(make_map(features)).embeds
    after = after.norm(dim=-1)
    assert after.max() / after.median() < before.max() / before.median()


def test_boxes_cover_the_whole_frame() -> None:
    tokens = build("pllava", {"shape": (2, 3, 3), "frames": 2}).connect(
        make_map(torch.randn(2, 8, 8, 2))
    )
    assert tokens.box[:, 0].min() == 0
    assert tokens.box[:, 2].max() == 1
    assert tokens.weight.sum().item() == pytest.approx(2 * 64)


def test_a_shape_of_two_numbers_is_refused() -> None:
    with pytest.raises(UserError, match="three numbers"):
        build("pllava", {"shape": (2, 3)})
