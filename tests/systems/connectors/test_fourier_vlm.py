from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.tokens import FeatureMap
from sparsight.ops.dct import dct_matrix
from tests.systems.conftest import make_map


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_smaller_map_is_the_official_one(golden, name: str) -> None:
    case = golden("70-fourier-vlm", name)
    rows, columns = case["p_grid"].tolist()
    x = case["in_features"].unflatten(1, (rows, columns))
    down, across = dct_matrix(rows).float(), dct_matrix(columns).float()
    whole = torch.einsum("rh,vhwc,sw->vcrs", down, x, across)
    torch.testing.assert_close(whole, case["out_dct"], atol=1e-4, rtol=0)
    system = build("fourier-vlm", {"grid": tuple(case["p_reserve"].tolist()), "rescale": False})
    expected = case["out_tokens"].flatten(0, 1)
    torch.testing.assert_close(system.connect(make_map(x)).embeds, expected, atol=1e-4, rtol=0)
    half = case["in_features_half"].unflatten(1, (rows, columns)).half()
    got = system.connect(make_map(half)).embeds
    assert got.dtype == torch.float16
    expected = case["out_tokens_half"].flatten(0, 1)
    torch.testing.assert_close(got.float(), expected, atol=4e-3, rtol=4e-3)


def projected(x: Tensor) -> FeatureMap:
    """A map behind a projector that is not linear."""

    def projector(rows: Tensor) -> Tensor:
        return torch.cat([rows.relu(), rows.square()], -1)

    return replace(make_map(projector(x)), raw=x, projector=projector)


def test_the_cut_is_made_before_a_projector_that_takes_features_one_by_one() -> None:
    x = torch.randn(2, 6, 6, 3)
    features = projected(x)
    system = build("fourier-vlm", {"ratio": 0.5})
    plain = system.connect(make_map(x)).embeds
    torch.testing.assert_close(system.connect(features).embeds, features.projector(plain))


def test_keeping_every_frequency_changes_nothing() -> None:
    features = projected(torch.randn(2, 5, 4, 3))
    kept = build("fourier-vlm", {"ratio": 1.0}).connect(features)
    assert torch.equal(kept.embeds, features.features.flatten(0, 2))


def test_tokens_cover_their_view_and_stand_for_all_its_patches() -> None:
    kept = build("fourier-vlm", {"ratio": 0.5}).connect(make_map(torch.randn(2, 4, 6, 3)))
    assert kept.view.tolist() == [0] * 6 + [1] * 6
    assert kept.box[0].tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    assert kept.weight.tolist() == [4.0] * 12
    assert kept.coords[7].tolist() == [1, 0, 1]


def test_no_axis_grows() -> None:
    kept = build("fourier-vlm", {"grid": (9, 2)}).connect(make_map(torch.randn(1, 4, 4, 3)))
    assert len(kept) == 8


def test_a_grid_is_two_numbers() -> None:
    with pytest.raises(UserError, match="rows,columns"):
        build("fourier-vlm", {"grid": (3,)})
