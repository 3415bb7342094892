from __future__ import annotations

import torch
from torch.nn import functional

from sparsight.ops.centres import merge_by_halves, merge_into_centres

X = torch.tensor([[[1.0], [10.0], [3.0], [7.0], [5.0]]])
CENTRE = torch.tensor([[0, 1]])
LABEL = torch.tensor([[0, 1, 0, 0, 0]])


def test_a_centre_keeps_its_share_and_one_alone_stays_what_it_is() -> None:
    merged = merge_into_centres(X, CENTRE, LABEL, 0.6)
    torch.testing.assert_close(merged, torch.tensor([[[0.6 * 1 + 0.4 * 5], [10.0]]]))
    assert merged[0, 1].item() == 10.0


def test_the_plain_mean_counts_the_centre_as_one_of_all() -> None:
    merged = merge_into_centres(X, CENTRE, LABEL, None)
    torch.testing.assert_close(merged, torch.tensor([[[4.0], [10.0]]]))


def test_merging_by_halves_equals_a_loop() -> None:
    torch.manual_seed(0)
    kept, gone = torch.randn(4, 6), torch.randn(11, 6)
    expected = kept.clone()
    target = functional.cosine_similarity(gone[:, None], kept[None], dim=-1).argmax(1)
    for token, place in zip(gone, target, strict=True):
        expected[place] = (expected[place] + token) / 2
    torch.testing.assert_close(merge_by_halves(kept, gone), expected)


def test_nothing_to_merge_leaves_all_as_it_is() -> None:
    kept = torch.randn(3, 4)
    assert torch.equal(merge_by_halves(kept, torch.zeros(0, 4)), kept)
