from __future__ import annotations

import torch

from sparsight.ops.token_trees import token_trees, tree_means

# Two things that change places from frame to frame, and one that comes in at the end.
A, B, C = torch.eye(3)
FILM = torch.stack([torch.stack([A, B]), torch.stack([B, 2 * A]), torch.stack([6 * A, C])])
FREE = torch.ones(3, 2, dtype=torch.bool)


def test_tokens_follow_the_most_similar_one_back_to_the_first_frame() -> None:
    assert token_trees(FILM, FREE, 0.8).tolist() == [[0, 1], [1, 0], [0, 5]]


def test_tokens_that_take_no_part_neither_join_nor_are_joined() -> None:
    free = FREE.clone()
    free[1, 1] = False
    assert token_trees(FILM, free, 0.8).tolist() == [[0, 1], [1, 3], [4, 5]]


def test_the_threshold_rises_until_enough_trees_are_left() -> None:
    film = FILM + 0.1 * torch.randn(3, 2, 3)
    assert len(token_trees(film, FREE, 0.5).unique()) == 3
    assert len(token_trees(film, FREE, 0.5, least=5).unique()) >= 5
    assert len(token_trees(film, FREE, 0.5, least=6).unique()) == 6


def test_a_tree_is_averaged_into_its_earliest_token() -> None:
    mean, size = tree_means(FILM, token_trees(FILM, FREE, 0.8))
    assert torch.equal(mean[0], torch.stack([3 * A, B]))
    assert size.tolist() == [[3, 2], [0, 0], [0, 1]]


def test_dividing_by_children_leaves_grandchildren_out_of_the_count() -> None:
    mean, _ = tree_means(FILM, token_trees(FILM, FREE, 0.8), by_children=True)
    assert torch.equal(mean[0, 0], 4.5 * A)
