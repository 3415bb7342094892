from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.ops.diversity import thin_out
from tests.systems.conftest import make_rows

REQUEST = Request("", torch.zeros(0, 8))


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_tokens_stay(golden, name: str) -> None:
    case = golden("vispruner", name)
    features, size = case["in_features"], case["in_features"].shape[1]
    tokens = make_rows(
        functional.linear(features, case["in_w"]),
        features=features,
        cls_attention=case["in_cls_attention"].mT,
    )
    knobs = {"keep": int(case["p_T"]), "important": float(case["p_important_ratio"])}
    kept = build("vispruner", knobs).reduce(tokens, REQUEST)
    mask = torch.zeros(len(features) * size, dtype=torch.bool)
    mask[kept.index] = True
    assert torch.equal(mask.view(-1, size), case["out_mask"])
    expected = case["out_tokens"].flatten(0, 1)
    torch.testing.assert_close(kept.embeds, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        kept.score, case["out_score"].flatten()[kept.index], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_rounds_leave_the_official_order(golden, name: str) -> None:
    case = golden("vispruner", name)
    rest = case["out_order"][:, case["out_important_index"].shape[1] :]
    features = case["in_features"].gather(
        1, rest[..., None].expand(-1, -1, case["in_features"].shape[-1])
    )
    left = thin_out(features, case["out_diverse_index"].shape[1])
    assert torch.equal(rest.gather(1, left), case["out_diverse_index"])


def test_copies_of_what_stays_go_first() -> None:
    patches = torch.eye(8)[None, [0, 0, 1, 1, 2, 2, 3, 3]]
    attention = torch.linspace(1, 0.1, 8)[None, :, None]
    tokens = make_rows(patches, features=patches, cls_attention=attention)
    kept = build("vispruner", {"keep": 4, "important": 0.0}).reduce(tokens, REQUEST)
    assert sorted(kept.embeds.argmax(1).tolist()) == [0, 1, 2, 3]


def test_an_odd_number_of_patches_is_thinned_out_to_any_count() -> None:
    x = torch.randn(2, 15, 4)
    for count in range(1, 16):
        left = thin_out(x, count)
        assert left.shape == (2, count)
        assert all(len(set(row)) == count for row in left.tolist())


def test_attention_alone_decides_where_all_are_important() -> None:
    patches = torch.randn(1, 9, 4)
    attention = torch.rand(1, 9, 2)
    tokens = make_rows(patches, features=patches, cls_attention=attention)
    kept = build("vispruner", {"keep": 3, "important": 1.0}).reduce(tokens, REQUEST)
    assert kept.index.tolist() == attention.mean(-1)[0].topk(3).indices.sort().values.tolist()
