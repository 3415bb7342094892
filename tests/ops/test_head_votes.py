from __future__ import annotations

import torch

from sparsight.ops.head_votes import as_pairs, from_pairs, looking_heads


def test_a_head_that_never_looks_at_pictures_is_found() -> None:
    visual = torch.full((4, 10, 3), 0.5)
    visual[:, :, 1] = 0.01
    looking = looking_heads(visual, 1 - visual, 0.1, votes=4)
    assert as_pairs(looking) == (2, 1, 3, 1)  # the first two layers look with all heads


def test_pairs_and_masks_are_the_same_thing() -> None:
    looking = torch.rand(5, 4) > 0.3
    assert torch.equal(from_pairs(as_pairs(looking), 5, 4), looking)
    assert from_pairs((), 2, 2).all()
