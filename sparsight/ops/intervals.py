"""How well a predicted stretch of time covers the true ones."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[float, float]


def iou(predicted: Span, true: Span) -> float:
    """Intersection over the hull of both, from the first start to the last end; 0 where they lie
    apart, or where the hull is empty."""
    hull = max(predicted[1], true[1]) - min(predicted[0], true[0])
    return _shared(predicted, true) / hull if hull > 0 else 0.0


def iop(predicted: Span, true: Span) -> float:
    """Intersection over the prediction: 1 for a point within the true stretch. 0 for a prediction
    that ends before it starts."""
    length = predicted[1] - predicted[0]
    if length == 0:
        return float(true[0] <= predicted[0] <= true[1])
    return _shared(predicted, true) / length if length > 0 else 0.0


def best_overlap(predicted: Span, spans: Iterable[Span]) -> tuple[float, float]:
    """The best `iou` and the best `iop` over several true stretches, (0, 0) without any, as
    grounded question answering scores them (NExT-GQA, arXiv:2309.01327)."""
    known = list(spans)
    return (
        max((iou(predicted, span) for span in known), default=0.0),
        max((iop(predicted, span) for span in known), default=0.0),
    )


def _shared(a: Span, b: Span) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
