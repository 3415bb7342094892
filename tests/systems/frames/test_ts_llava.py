from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.tokens import Views, feature_map
from sparsight.ops.regrid import thumbnail, thumbnail_grid
from sparsight.ops.select import even
from sparsight.systems.frames.ts_llava import segment_centres
from tests.systems.conftest import make_views


def test_frames_are_the_official_segment_centres(golden) -> None:
    case = golden("02-ts-llava", "a")
    for place, (total, wanted) in enumerate(zip(case["p_total"], case["p_wanted"], strict=True)):
        got = segment_centres(int(total), int(wanted))
        assert got == case[f"out_frames_{place}"].tolist()


def test_the_thumbnail_equals_the_official_picture(golden) -> None:
    case = golden("02-ts-llava", "b")
    assert list(thumbnail_grid(len(case["in_frames"]))) == case["p_grid_rows_cols"].tolist()
    got = thumbnail(case["in_frames"], tuple(case["p_final_hw"].tolist()))
    torch.testing.assert_close(got, case["out_grid_image"], atol=1e-5, rtol=0)


def test_samples_are_the_official_positions(golden) -> None:
    case = golden("02-ts-llava", "c")
    for place, count in enumerate(case["p_n_samples"].tolist()):
        got = even(len(case["in_tokens"]), count)
        assert torch.equal(got, case[f"out_index_{place}"])
    assert torch.equal(case["in_tokens"][even(360, 50)], case["out_tokens_0"])


def test_the_whole_sequence_equals_the_official_one(golden) -> None:
    case = golden("02-ts-llava", "d")
    side, patch = int(case["p_side"]), int(case["p_patch"])
    ts = build(
        "ts-llava",
        {"thumbnail": int(case["p_n_thumb"]), "samples": int(case["p_n_samples"])},
    )
    frames = case["in_frames"]
    views = torch.cat([frames, ts.tile(frames)])
    patches = functional.unfold(views, patch, stride=patch).mT @ case["in_w"].mT
    grid = (side // patch, side // patch)
    of_film = make_views(len(views), grid)
    roles = (*["frame"] * len(frames), "thumbnail")
    features = feature_map(patches.unflatten(1, grid), Views(**{**vars(of_film), "roles": roles}))
    tokens = ts.connect(features)
    torch.testing.assert_close(tokens.embeds, case["out_tokens"], atol=1e-5, rtol=0)


def film(frames: int, thumbs: int, grid: int = 3):
    views = make_views(frames + thumbs, (grid, grid))
    views = Views(**{**vars(views), "roles": ("frame",) * frames + ("thumbnail",) * thumbs})
    return feature_map(torch.randn(frames + thumbs, grid, grid, 2), views)


def test_sampling_as_many_as_there_are_keeps_every_frame_token() -> None:
    features = film(4, 0)
    tokens = build("ts-llava", {"thumbnail": 0, "samples": 36}).connect(features)
    assert torch.equal(tokens.embeds, features.features.flatten(0, 2))


def test_both_orders_hold_the_same_tokens() -> None:
    features = film(4, 1)
    first = build("ts-llava", {"samples": 10}).connect(features).embeds
    second = build("ts-llava", {"samples": 10, "order": "thumbnail"}).connect(features).embeds
    assert len(first) == 10 + 9
    assert torch.equal(first[10:], second[:9])
    assert torch.equal(first[:10], second[9:])


def test_one_frame_in_the_thumbnail_is_that_frame() -> None:
    pixels = torch.randn(5, 3, 8, 8)
    tiled = build("ts-llava", {"thumbnail": 1}).tile(pixels)
    torch.testing.assert_close(tiled[0], pixels[0])


@pytest.mark.parametrize(
    ("grids", "groups"),
    [
        (2, [[0, 1, 3, 4], [6, 7, 9, 10]]),  # eight frames at equal stride, four to a picture
        (0, [[0, 1, 2, 3], [4, 5, 6, 7]]),  # all frames in a row; the last three fill none
        (9, [[0, 1, 3, 4], [6, 7, 9, 10]]),  # no more than can be filled
    ],
)
def test_several_thumbnails_follow_each_other_in_time(grids: int, groups: list[list[int]]) -> None:
    pixels = torch.randn(11, 3, 8, 8)
    tiled = build("ts-llava", {"thumbnail": 4, "grids": grids}).tile(pixels)
    assert len(tiled) == len(groups)
    for picture, group in zip(tiled, groups, strict=True):
        for cell, frame in enumerate(group):
            row, column = divmod(cell, 2)
            got = picture[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            torch.testing.assert_close(got, functional.avg_pool2d(pixels[frame], 2))


def test_the_tokens_of_every_thumbnail_are_given_whole() -> None:
    features = film(6, 2)
    thumbs = features.features[6:].flatten(0, 2)
    beside = build("ts-llava", {"samples": 10, "grids": 2}).connect(features)
    alone = build("ts-llava", {"samples": 0, "grids": 0}).connect(features)
    assert torch.equal(beside.embeds[10:], thumbs)
    assert torch.equal(alone.embeds, thumbs)


def test_a_film_shorter_than_one_thumbnail_fills_one() -> None:
    assert len(build("ts-llava", {"thumbnail": 6, "grids": 3}).tile(torch.randn(4, 3, 8, 8))) == 1


def test_a_grid_that_does_not_divide_the_side_is_padded_to_a_whole_view() -> None:
    assert build("ts-llava", {"thumbnail": 5}).tile(torch.randn(5, 3, 8, 8)).shape == (1, 3, 8, 8)


def test_the_sampled_indices_rise_from_the_first_token_to_the_last() -> None:
    index = even(50 * 576, 2880)
    assert index[0] == 0
    assert index[-1] == 50 * 576 - 1
    assert bool((index.diff() > 0).all())


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(UserError, match="leave nothing"):
        build("ts-llava", {"thumbnail": 0, "samples": 0})
