from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsight.ops.spline import smoothing_spline
from sparsight.ops.temporal_search import (
    Search,
    best_moments,
    cells_of_boxes,
    drawn_moments,
    first_look,
    found_moments,
    learn,
    look_closer,
    look_probability,
    next_look,
)

GOLDEN = Path(__file__).resolve().parent.parent / "golden/58-tstar"


def golden(case: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"case-{case}.npz") as file:
        return {name: torch.from_numpy(np.array(file[name])) for name in file.files}


@pytest.mark.parametrize(("name", "rounds"), [("a", 4), ("b", 3)])
def test_the_rounds_of_a_search_equal_the_official_ones(name: str, rounds: int) -> None:
    case = golden(name)
    total, count = int(case["p_n_seconds"]), int(case["p_grid"].prod())
    percentile = float(case["p_percentile"])
    search = Search.over(total, float(case["p_initial_P"]))
    assert torch.equal(first_look(total, count), case["in_sampled_0"])
    for at in range(rounds):
        if at:
            got = look_probability(search, count, percentile)
            want = case[f"out_draw_probability_{at}"]
            torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
        search = learn(
            search,
            case[f"in_sampled_{at}"],
            case[f"in_cell_confidence_{at}"].flatten(),
            window=int(case["p_window"]),
            percentile=percentile,
            smooth=float(case["p_spline_smoothing"]),
        )
        torch.testing.assert_close(search.score, case[f"out_score_{at}"], atol=1e-9, rtol=0)
        torch.testing.assert_close(search.chance, case[f"out_P_{at}"], atol=1e-6, rtol=0)
        assert torch.equal(search.unseen.double(), case[f"out_unvisited_{at}"])
    final = search.score / search.score.sum()
    torch.testing.assert_close(final, case["out_final_probability"], atol=1e-9, rtol=0)


def test_boxes_fall_into_the_official_cells() -> None:
    case = golden("c")
    best, count = cells_of_boxes(
        case["in_boxes_xyxy"],
        case["in_class_id"],
        case["in_confidence"],
        case["p_class_weight"],
        tuple(case["p_grid"].tolist()),
        tuple(case["p_image_hw"].tolist()),
    )
    torch.testing.assert_close(best, case["out_cell_confidence"], atol=1e-9, rtol=0)
    assert torch.equal(count, case["out_cell_class_count"])


def test_a_picture_without_boxes_has_empty_cells() -> None:
    none = torch.zeros(0, dtype=torch.long)
    best, count = cells_of_boxes(
        torch.zeros(0, 4), none, torch.zeros(0), torch.ones(2), (2, 3), (20, 30)
    )
    assert torch.equal(best, torch.zeros(2, 3, dtype=torch.float64))
    assert torch.equal(count, torch.zeros(6, 2, dtype=torch.long))


def search_for(needle: range, moments: int, rounds: int, seed: int = 0) -> tuple[Search, int]:
    """Look with a noisy detector that knows the needle; also how many moments were shown."""
    draw = torch.Generator().manual_seed(seed)
    search, shown = Search.over(moments, 0.2), 0
    for at in range(rounds):
        looked = next_look(search, 16, draw) if at else first_look(moments, 16)
        hit = (looked >= needle.start) & (looked < needle.stop)
        noise = torch.rand(len(looked), generator=draw, dtype=torch.float64) * 0.2
        search, shown = learn(search, looked, torch.where(hit, 0.9, noise)), shown + len(looked)
    return search, shown


def test_a_needle_as_long_as_the_stride_is_among_the_best_after_one_round() -> None:
    search, shown = search_for(range(70, 76), 96, rounds=1)
    assert shown == 16
    assert set(best_moments(search.score, 4).tolist()) & set(range(70, 76))


def test_the_same_seed_looks_at_the_same_moments() -> None:
    first, _ = search_for(range(70, 76), 200, rounds=3, seed=4)
    again, _ = search_for(range(70, 76), 200, rounds=3, seed=4)
    assert torch.equal(first.score, again.score)


def test_no_moment_is_shown_twice_while_enough_are_unseen() -> None:
    search, shown = search_for(range(70, 76), 400, rounds=4)
    assert int((~search.unseen).sum()) == shown
    assert float(search.chance.sum()) == pytest.approx(1)


def test_where_few_are_unseen_the_seen_may_be_shown_again() -> None:
    search = Search.over(20, 0.2)
    search = learn(search, torch.arange(18), torch.zeros(18))
    assert int((look_probability(search, 6) > 0).sum()) == 20


def test_a_film_shorter_than_the_grid_is_shown_whole() -> None:
    assert first_look(3, 16).tolist() == [0, 1, 2]
    search = learn(Search.over(3, 0.2), first_look(3, 16), torch.tensor([0.1, 0.7, 0.2]))
    assert search.chance.tolist() == pytest.approx([1 / 3] * 3)
    assert sorted(next_look(search, 16, torch.Generator()).tolist()) == [0, 1, 2]
    assert best_moments(search.score, 1).tolist() == [1]


def test_what_was_found_comes_first_and_the_unseen_are_spread() -> None:
    search = Search.over(40, 0.2)
    search = learn(search, torch.tensor([4, 14, 24, 34]), torch.tensor([0, 0.9, 0, 0]), window=1)
    assert found_moments(search, 1).tolist() == [14]
    assert set(found_moments(search, 3).tolist()) == {13, 14, 15}
    more = found_moments(search, 6).tolist()
    assert {13, 14, 15} <= set(more)
    assert not {4, 24, 34} & set(more)  # seen, and nothing was there
    others = sorted(set(more) - {13, 14, 15})
    assert others[0] < 13 < others[1] < others[2]
    assert others[2] > 30
    assert len(set(found_moments(search, 40).tolist())) == 40


def test_where_nothing_was_found_the_moments_are_spread() -> None:
    search = learn(Search.over(12, 0.2), torch.arange(12), torch.zeros(12))
    assert found_moments(search, 4).tolist() == [1, 4, 7, 10]
    assert drawn_moments(search, 4, torch.Generator()).tolist() == [1, 4, 7, 10]


def test_moments_are_drawn_by_their_score() -> None:
    search = Search.over(30, 0.2)
    search = learn(search, first_look(30, 5), torch.zeros(5))
    drawn = [
        drawn_moments(search, 8, torch.Generator().manual_seed(seed)).tolist() for seed in (3, 3, 4)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    for moments in drawn:
        assert len(set(moments)) == 8
        assert not set(moments) & set(first_look(30, 5).tolist())
    sure = look_closer(search, 7, 1.0)
    assert 7 in drawn_moments(sure, 8, torch.Generator().manual_seed(3)).tolist()


def test_a_closer_look_may_lower_a_score() -> None:
    search = learn(Search.over(9, 0.2), torch.arange(9), torch.full((9,), 0.5))
    closer = look_closer(search, 3, 0.1)
    assert float(closer.score[3]) == 0.1
    assert float(search.score[3]) == 0.5


def test_a_spline_follows_a_cubic_and_keeps_to_the_wanted_sum_of_squares() -> None:
    x = torch.arange(30, dtype=torch.float64)
    cubic = (x - 3) * (x - 12) * (x - 25) / 1000
    torch.testing.assert_close(smoothing_spline(x, cubic, 0.5, x), cubic)
    rough = cubic + torch.randn(30, generator=torch.Generator().manual_seed(0)).double()
    error = (smoothing_spline(x, rough, 2.0, x) - rough).square().sum()
    assert float(error) == pytest.approx(2.0, rel=2e-3)
