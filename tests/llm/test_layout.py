"""Layouts: built from masks, cut row by row."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.llm.layout import Layout


def example() -> Layout:
    mask = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    visual = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0]]).bool()
    prunable = visual.clone()
    prunable[:, 4] = False  # a newline token
    media = torch.tensor([[-1, -1, 0, 0, 0, -1], [-1, 0, 0, 1, 1, -1]])
    return Layout.of(mask, visual, prunable, media)


def test_a_layout_made_from_masks_counts_columns_and_takes_all_visual_as_prunable() -> None:
    mask = torch.tensor([[0, 1, 1]])
    layout = Layout.of(mask, torch.tensor([[0, 1, 0]]))
    assert layout.index.tolist() == [[0, 1, 2]]
    assert torch.equal(layout.prunable, layout.visual)
    assert layout.padding.tolist() == [[True, False, False]]
    assert layout.media.tolist() == [[-1, 0, -1]]


def test_taking_columns_carries_everything_along() -> None:
    layout = example().take(torch.tensor([[2, 4, 5], [0, 3, 5]]))
    assert layout.visual.tolist() == [[True, True, False], [False, True, False]]
    assert layout.prunable.tolist() == [[True, False, False], [False, True, False]]
    assert layout.index.tolist() == [[2, 4, 5], [0, 3, 5]]
    assert layout.media.tolist() == [[0, 0, -1], [-1, 1, -1]]
    assert not layout.padding.any()
    assert (layout.batch, len(layout)) == (2, 3)


def test_filling_of_shorter_rows_is_padding_and_belongs_to_nothing() -> None:
    fill = torch.tensor([[True, False], [False, False]])
    layout = example().take(torch.tensor([[3, 5], [3, 5]]), fill)
    assert layout.padding.tolist() == fill.tolist()
    assert layout.visual.tolist() == [[False, False], [True, False]]
    assert layout.index.tolist() == [[-1, 5], [3, 5]]
    assert layout.media.tolist() == [[-1, -1], [1, -1]]


def test_positions_of_several_axes_are_cut_too() -> None:
    places = torch.arange(36).view(3, 2, 6)
    layout = replace(example(), positions=places)
    keep = torch.tensor([[1, 5], [0, 4]])
    taken = layout.take(keep).positions
    assert taken is not None
    assert taken[:, 1].tolist() == places[:, 1, [0, 4]].tolist()
    tail = layout.tail(2)
    assert tail.positions is not None
    assert torch.equal(tail.positions, places[..., 4:])
    assert tail.index.tolist() == [[4, 5], [4, 5]]


@settings(max_examples=30)
@given(st.integers(0, 2**6 - 1), st.integers(0, 2**6 - 1))
def test_taking_twice_is_taking_the_composition(first: int, second: int) -> None:
    keep = torch.tensor([i for i in range(6) if first >> i & 1], dtype=torch.long)
    again = torch.tensor([i for i in range(len(keep)) if second >> i & 1], dtype=torch.long)
    layout = example()
    twice = layout.take(keep.expand(2, -1)).take(again.expand(2, -1))
    once = layout.take(keep[again].expand(2, -1))
    assert torch.equal(twice.visual, once.visual)
    assert torch.equal(twice.index, once.index)
    assert torch.equal(twice.padding, once.padding)


def test_words_are_the_text_behind_the_last_visual_token() -> None:
    assert example().words.tolist() == [[False] * 5 + [True]] * 2
    text = Layout.of(torch.tensor([[0, 1, 1]]), torch.zeros(1, 3))
    assert text.words.tolist() == [[False, True, True]]


def test_the_number_at_the_start_is_of_each_medium_and_survives_dropping() -> None:
    layout = example()
    assert layout.prunable_at_start[:, :2].tolist() == [[2, 0], [2, 1]]
    shorter = layout.take(torch.tensor([[1, 5], [2, 5]]))
    assert shorter.prunable_at_start[:, :2].tolist() == [[2, 0], [2, 1]]
    assert layout.tail(3).prunable_at_start[:, :2].tolist() == [[1, 0], [0, 1]]


def test_marks_go_with_their_tokens() -> None:
    layout = replace(example(), marks=torch.arange(12).view(2, 6))
    marks = layout.take(torch.tensor([[2, 4, 5], [0, 3, 5]])).marks
    assert marks is not None
    assert marks.tolist() == [[2, 4, 5], [6, 9, 11]]
