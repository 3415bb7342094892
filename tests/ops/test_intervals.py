from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.ops.intervals import Span, best_overlap, iop, iou

SPANS = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda span: (min(span), max(span)))


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ((2, 4), (3, 6), (1 / 4, 1 / 2)),
        ((3, 6), (3, 6), (1, 1)),
        ((0, 10), (3, 6), (0.3, 0.3)),
        ((0, 2), (3, 6), (0, 0)),  # apart: not less than nothing
        ((5, 5), (3, 6), (0, 1)),  # a point within
        ((7, 7), (3, 6), (0, 0)),
        ((6, 4), (3, 6), (0, 0)),  # ends before it starts
    ],
)
def test_overlaps_by_hand(predicted: Span, true: Span, expected: Span) -> None:
    assert (iou(predicted, true), iop(predicted, true)) == pytest.approx(expected)


@given(SPANS, SPANS)
def test_a_prediction_is_covered_at_least_as_well_as_it_covers(predicted: Span, true: Span) -> None:
    assert 0 <= iou(predicted, true) <= 1
    assert 0 <= iop(predicted, true) <= 1
    assert iou(predicted, true) == iou(true, predicted)
    assert iou(predicted, true) <= iop(predicted, true)


def test_the_best_of_several_counts_each_for_itself() -> None:
    assert best_overlap((2, 4), [(3, 6), (0, 10)]) == pytest.approx((1 / 4, 1.0))
    assert best_overlap((2, 4), []) == (0.0, 0.0)
