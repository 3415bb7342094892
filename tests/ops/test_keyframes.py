from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsight.ops.keyframes import nearest_distances, ssim, temporal_scores, visual_scores

GOLDEN = Path(__file__).resolve().parent.parent / "golden/58-tstar"


def golden(case: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"case-{case}.npz") as file:
        return {name: torch.from_numpy(np.array(file[name])) for name in file.files}


def test_temporal_metrics_equal_the_official_ones() -> None:
    case = golden("d")
    counted = case["out_item_counted"].nonzero()[:, 0].tolist()
    assert counted == [0, 1]  # the third predicts nothing
    scores = []
    for place in counted:
        right, predicted = case[f"in_gt_{place}"], case[f"in_pred_{place}"]
        scores.append(temporal_scores(right, predicted, float(case["p_threshold"])))
        far = nearest_distances(right, predicted)
        torch.testing.assert_close(far, case["out_per_item_annd"][place], atol=1e-9, rtol=0)
    torch.testing.assert_close(
        torch.stack(scores), case["out_per_item_prf"][counted], atol=1e-9, rtol=0
    )
    torch.testing.assert_close(
        torch.stack(scores).mean(0), case["out_average_prf"], atol=1e-9, rtol=0
    )


@pytest.mark.parametrize(("layout", "name"), [("channels", "channel_first"), ("rows", "reference")])
def test_similarity_equals_the_official_one_in_both_layouts(layout: str, name: str) -> None:
    case = golden("e")
    name = {"reference": "reference_layout"}.get(name, name)
    got = ssim(
        case["in_gt"],
        case["in_pred"],
        layout,  # type: ignore[arg-type]
        window=int(case["p_window"]),
        sigma=float(case["p_sigma"]),
    )
    torch.testing.assert_close(got, case[f"out_ssim_{name}"], atol=1e-5, rtol=0)
    want = case[f"out_precision_recall_{name}"]
    torch.testing.assert_close(visual_scores(got), want, atol=1e-5, rtol=0)


def test_the_right_frames_score_one_and_are_no_second_off() -> None:
    seconds = torch.tensor([3.0, 20.0, 41.5])
    assert temporal_scores(seconds, seconds).tolist() == [1, 1, 1]
    assert nearest_distances(seconds, seconds).tolist() == [0, 0]
    picture = (torch.rand(1, 12, 14, 3) * 255).byte()
    assert float(ssim(picture, picture)) == pytest.approx(1)


@pytest.mark.parametrize(("off", "score"), [(5.0, 1.0), (6.0, 0.0)])
def test_a_hit_is_five_seconds_off_at_most(off: float, score: float) -> None:
    got = temporal_scores(torch.tensor([10.0]), torch.tensor([10.0 + off]))
    assert got.tolist() == [score] * 3


def test_precision_and_recall_look_from_either_side() -> None:
    right, predicted = torch.tensor([10.0, 50.0]), torch.tensor([11.0, 30.0, 31.0])
    got = temporal_scores(right, predicted).tolist()
    assert got == pytest.approx([1 / 3, 1 / 2, 0.4])
