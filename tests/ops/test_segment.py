from __future__ import annotations

import torch

from sparsight.ops.segment import segments_by_likeness, segments_of_labels

SCENES = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1], [0.4, 1], [-1, 0]])


def test_cuts_lie_where_neighbours_are_unlike() -> None:
    assert segments_by_likeness(SCENES, 0.5, 1) == [2, 3, 1]


def test_the_least_alike_neighbours_are_parted_too_if_more_is_asked_for() -> None:
    assert segments_by_likeness(SCENES, 0.5, 4) == [2, 2, 1, 1]
    assert segments_by_likeness(SCENES, 0.5, 99) == [1] * 6


def test_a_film_of_one_frame_is_one_segment() -> None:
    assert segments_by_likeness(SCENES[:1], 0.5, 8) == [1]


def test_scattered_clusters_become_segments() -> None:
    assert segments_of_labels([0, 0, 1, 0, 0, 0, 2, 2, 1, 1, 3, 2]) == [6, 2, 4]
    assert segments_of_labels([0, 0, 1, 2, 2, 2, 1, 0, 0]) == [2, 5, 2]


def test_frames_between_runs_of_a_length_join_the_earlier() -> None:
    assert segments_of_labels([0, 0, 1, 2, 2]) == [3, 2]


def test_frames_that_are_all_alone_are_one_segment() -> None:
    assert segments_of_labels([0, 1, 2, 0]) == [4]
    assert segments_of_labels([5]) == [1]
