from __future__ import annotations

import dataclasses

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsight.core.tokens import Views, VisualTokens, feature_map, pack, patch_boxes
from tests.systems.conftest import make_views

ROWS = ("embeds", "time", "box", "view", "weight", "prunable", "index", "coords")


def tokens(count: int, separators: tuple[int, ...] = ()) -> VisualTokens:
    """Random tokens with signals, a score and a further feature set."""
    random = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=random)
    prunable = torch.ones(count, dtype=torch.bool)
    prunable[list(separators)] = False
    return VisualTokens(
        embeds=torch.randn(count, 3, generator=random),
        time=torch.rand(count, generator=random),
        box=torch.cat([corner, corner + torch.rand(count, 2, generator=random)], 1),
        view=torch.randint(0, 3, (count,), generator=random),
        weight=torch.randint(1, 5, (count,), generator=random).float(),
        prunable=prunable,
        index=torch.arange(count) * 2,
        coords=torch.randint(0, 9, (count, 3), generator=random),
        views=make_views(3, (1, 1)),
        total=2 * count,
        signals={"keys": torch.randn(count, 2, generator=random)},
        extra=(torch.randn(count, 3, generator=random),),
        score=torch.rand(count, generator=random),
    )


def columns(item: VisualTokens) -> dict[str, Tensor]:
    """Everything that has a row for each token."""
    assert item.score is not None
    named = {name: getattr(item, name) for name in ROWS}
    more = {f"extra {place}": value for place, value in enumerate(item.extra)}
    return named | dict(item.signals) | more | {"score": item.score}


def assert_equal(got: VisualTokens, expected: dict[str, Tensor]) -> None:
    for name, value in columns(got).items():
        assert value.dtype == expected[name].dtype, name
        assert torch.equal(value, expected[name]), name


def test_taking_keeps_the_order_whatever_is_given() -> None:
    whole = tokens(6)
    taken = whole.take(torch.tensor([4, 0, 3]))
    assert_equal(taken, {name: value[[0, 3, 4]] for name, value in columns(whole).items()})
    assert taken.total == whole.total


def test_tokens_take_the_places_of_others_and_keep_all_else() -> None:
    whole = tokens(6)
    placed = whole.placed(torch.tensor([5, 0, 2]), torch.tensor([2, 4, 1]))
    rows = columns(whole)
    expected = {name: value[[2, 5, 0]] for name, value in rows.items()}
    assert_equal(placed, expected | {"index": rows["index"][[1, 2, 4]]})


def test_nothing_can_be_taken() -> None:
    none = tokens(6).take(torch.tensor([], dtype=torch.long))
    assert len(none) == 0
    assert {len(value) for value in columns(none).values()} == {0}


def test_taking_without_a_score_leaves_none() -> None:
    assert dataclasses.replace(tokens(3), score=None).take(torch.tensor([1])).score is None


def test_separators_stay_when_prunable_tokens_are_kept() -> None:
    whole = tokens(6, separators=(2, 5))
    assert whole.keep_prunable(torch.tensor([4, 0])).index.tolist() == [0, 4, 8, 10]
    assert whole.keep_prunable(torch.tensor([], dtype=torch.long)).index.tolist() == [4, 10]
    assert whole.prunable.tolist() == [True, True, False, True, True, False]  # untouched


def merged_by_hand(whole: VisualTokens, group: list[int]) -> list[dict[str, Tensor]]:
    """One token after the other, in the order of the groups' first members."""
    rows = columns(whole)
    out = []
    for number in dict.fromkeys(place for place in group if place >= 0):
        members = [place for place, own in enumerate(group) if own == number]
        token = {name: value[members[0]] for name, value in rows.items()}
        if len(members) > 1:
            weight = whole.weight[members]
            for name in ("embeds", "time", "keys", "extra 0", "score", "coords"):
                value = rows[name][members].float()
                shares = (weight / weight.sum()).view(-1, *[1] * (value.ndim - 1))
                token[name] = (value * shares).sum(0)
            token["coords"] = token["coords"].round().long()
            box = whole.box[members]
            token["box"] = torch.cat([box[:, :2].amin(0), box[:, 2:].amax(0)])
            token["weight"] = weight.sum()
        out.append(token)
    return out


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=9))
def test_merging_equals_a_loop_over_the_groups(group: list[int]) -> None:
    whole = tokens(len(group))
    merged = columns(whole.merge(torch.tensor(group)))
    expected = merged_by_hand(whole, group)
    assert len(merged["embeds"]) == len(expected)
    for place, token in enumerate(expected):
        for name, value in token.items():
            torch.testing.assert_close(merged[name][place], value, atol=1e-5, rtol=1e-5)
    assert merged["index"].diff().gt(0).all()
    kept = torch.tensor(group) >= 0
    assert merged["weight"].sum() == whole.weight[kept].sum()


@given(st.permutations(range(6)))
def test_tokens_of_their_own_stay_bit_for_bit(group: list[int]) -> None:
    whole = tokens(6)
    assert_equal(whole.merge(torch.tensor(group)), columns(whole))


def test_lone_tokens_stay_bit_for_bit_beside_merged_ones_in_half_precision() -> None:
    whole = tokens(5)
    whole = dataclasses.replace(whole, embeds=whole.embeds.bfloat16())
    merged = whole.merge(torch.tensor([9, 2, 9, 7, 9]))
    assert merged.embeds.dtype == torch.bfloat16
    assert torch.equal(merged.embeds[1:], whole.embeds[[1, 3]])


def test_dropping_every_token_leaves_none() -> None:
    assert len(tokens(4).merge(torch.full((4,), -1))) == 0


# ---- boxes and packing -------------------------------------------------------------------------


def test_a_view_is_cut_into_the_boxes_of_its_patches() -> None:
    boxes = patch_boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, -0.5, 1.0, 1.5]]), (2, 4))
    assert boxes.shape == (2, 2, 4, 4)
    for view, (x0, y0, x1, y1) in enumerate([(0, 0, 1, 1), (0.5, -0.5, 1, 1.5)]):
        for row in range(2):
            for column in range(4):
                wide, high = (x1 - x0) / 4, (y1 - y0) / 2
                left, top = x0 + column * wide, y0 + row * high
                assert boxes[view, row, column].tolist() == [left, top, left + wide, top + high]


def packed_with_newlines() -> tuple[VisualTokens, Tensor, Views]:
    """Two views of 2 x 3 patches, a newline behind every row."""
    features = torch.randn(2, 2, 3, 4)
    views = dataclasses.replace(make_views(2, (2, 3)), times=torch.tensor([0.5, 2.0]))
    item = feature_map(
        features, views, {"keys": torch.randn(2, 2, 3, 5)}, extra=(torch.randn(2, 2, 3, 4),)
    )

    def lines(x: Tensor, newline: Tensor | None) -> Tensor:
        assert newline is not None
        return torch.cat([x, newline.expand(*x.shape[:2], 1, -1)], 2).flatten(0, 2)

    return pack(item, lines, torch.full((4,), 7.0)), features, views


def test_packed_tokens_say_which_patch_they_come_from() -> None:
    packed, features, views = packed_with_newlines()
    assert len(packed) == packed.total == 16
    real = packed.prunable
    assert packed.embeds[real].equal(features.flatten(0, 2))
    assert packed.view[real].tolist() == [0] * 6 + [1] * 6
    assert packed.time[real].tolist() == [0.5] * 6 + [2.0] * 6
    assert packed.box[real].equal(patch_boxes(views.boxes, (2, 3)).flatten(0, 2))
    assert packed.weight.eq(1).all()
    assert packed.index.equal(torch.arange(16))


def test_separators_are_marked_wherever_the_layout_puts_them() -> None:
    packed, _, _ = packed_with_newlines()
    newlines = ~packed.prunable
    assert newlines.nonzero()[:, 0].tolist() == [3, 7, 11, 15]
    assert packed.embeds[newlines].eq(7).all()
    assert packed.view[newlines].eq(-1).all()
    assert packed.time[newlines].eq(2.0).all()
    assert packed.signals["keys"][newlines].eq(0).all()
    assert packed.extra[0][newlines].eq(0).all()
    for value in (packed.box, packed.weight, packed.signals["keys"]):
        assert value.isfinite().all()


def test_packing_without_separators_has_none() -> None:
    item = feature_map(torch.randn(1, 2, 2, 4), make_views(1, (2, 2)))
    packed = pack(item, lambda x, newline: x.flatten(0, 2))
    assert packed.prunable.all()
    assert packed.coords.equal(torch.zeros(4, 3).long())


def test_a_pooling_layout_averages_the_boxes_with_the_features() -> None:
    item = feature_map(torch.randn(1, 2, 2, 4), make_views(1, (2, 2)))
    packed = pack(item, lambda x, _: x.mean((1, 2)))
    assert packed.embeds.allclose(item.features.mean((1, 2)))
    assert packed.box.tolist() == [[0.25, 0.25, 0.75, 0.75]]
