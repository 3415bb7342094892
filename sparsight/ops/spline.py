"""A cubic smoothing spline after Dierckx (Curve and Surface Fitting with Splines, 1993).

Knots are added where the residual is largest until a least-squares spline meets the wanted sum
of squares; among the splines on these knots, the smoothest one that meets it is taken. Choices
and tolerances are those of FITPACK, so that the numbers agree with it.
Shapes: m points, n knots, c = n - 4 coefficients, q places to evaluate at.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

ORDER = 4  # of a cubic
TOLERANCE = 1e-3  # of the wanted sum of squares


def smoothing_spline(x: Tensor, y: Tensor, smooth: float, at: Tensor) -> Tensor:
    """The spline through (m,) rising points `x`, `y`, at (q,) places `at`, in float64.

    `smooth`, above 0, is the sum of squared residuals it may have. At least four points.
    """
    x, y, at = x.double(), y.double(), at.double()
    knots, fit, first = _knots(x, y, smooth)
    error = float((fit[1] ** 2).sum())
    if len(knots) > 2 * ORDER and smooth - error >= TOLERANCE * smooth:
        coefficients = _smoothest(x, y, smooth, knots, first, error)
    else:
        coefficients = fit[0]
    return _basis(knots, at) @ coefficients


def _basis(knots: Tensor, x: Tensor) -> Tensor:
    """The cubic B-splines on (n,) knots at (q,) places: (q, c). The end pieces reach outwards."""
    count = len(knots) - ORDER
    piece = (torch.searchsorted(knots, x, right=True) - 1).clamp(ORDER - 1, count - 1)
    values = x.new_ones(len(x), 1)
    for degree in range(1, ORDER):
        steps = torch.arange(degree, device=x.device)
        right = knots[piece[:, None] + 1 + steps]
        left = knots[piece[:, None] + 1 - degree + steps]
        share = values / (right - left)
        grown = x.new_zeros(len(x), degree + 1)
        grown[:, :-1] += (right - x[:, None]) * share
        grown[:, 1:] += (x[:, None] - left) * share
        values = grown
    columns = piece[:, None] - (ORDER - 1) + torch.arange(ORDER, device=x.device)
    return x.new_zeros(len(x), count).scatter(1, columns, values)


def _least_squares(rows: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients, and the diagonal of the triangular factor."""
    orthogonal, triangular = torch.linalg.qr(rows)
    right = (orthogonal.T @ y)[:, None]
    solved = torch.linalg.solve_triangular(triangular, right, upper=True)[:, 0]
    return solved, triangular.diagonal().abs()


def _knots(x: Tensor, y: Tensor, smooth: float) -> tuple[Tensor, tuple[Tensor, Tensor], float]:
    """The knots; coefficients and residuals of the least-squares spline on them; the sum of
    squares of the one without inner knots."""
    total = len(x)
    inner: list[int] = []  # the points that are knots
    room, most = max(total // 2, 2 * ORDER) - 2 * ORDER, total - ORDER
    adding, before, first = 0, 0.0, 0.0
    while True:
        ends = x[[0] * ORDER], x[[-1] * ORDER]
        knots = torch.cat([ends[0], x[inner], ends[1]])
        if len(inner) == most:  # the spline through all points
            middle = x[2:-2]
            knots = torch.cat([ends[0], middle, ends[1]])
        rows = _basis(knots, x)
        coefficients, _ = _least_squares(rows, y)
        residual = rows @ coefficients - y
        error = float((residual**2).sum())
        if not inner:
            first = error
        over = error - smooth
        if over < TOLERANCE * smooth or len(inner) == most:
            return knots, (coefficients, residual), first
        if len(inner) == room:  # FITPACK is given more room, and begins to count anew
            room, adding = most, 0
        if adding:
            gain = before - error
            guess = int(adding * over / gain) if gain > TOLERANCE * smooth else adding * 2
            adding = min(adding * 2, max(guess, adding // 2, 1))
        else:
            adding = 1
        before = error
        inner = _with_more(inner, residual**2, min(adding, room - len(inner)))


def _with_more(inner: list[int], square: Tensor, count: int) -> list[int]:
    """`count` more points as knots, each halving the stretch with the largest squared residual.

    A point that is a knot counts half to either side; what a halved stretch had is shared by
    the number of points.
    """
    borders = [0, *inner, len(square) - 1]
    values = square.tolist()
    sums = [
        sum(values[low : high + 1])
        - (values[low] / 2 if low else 0.0)
        - (values[high] / 2 if high < len(values) - 1 else 0.0)
        for low, high in pairwise(borders)
    ]
    for _ in range(count):
        inside = [high - low - 1 for low, high in pairwise(borders)]
        wide = [place for place, points in enumerate(inside) if points]
        place = max(wide, key=lambda item: sums[item])
        half = inside[place] // 2 + 1
        borders.insert(place + 1, borders[place] + half)
        whole, points = sums[place], inside[place]
        sums[place : place + 1] = [
            whole * (half - 1) / points,
            whole * (points - half) / points,
        ]
    return borders[1:-1]


def _jumps(knots: Tensor) -> Tensor:
    """The jump of the third derivative at each inner knot, of each B-spline: (n - 8, c)."""
    count = len(knots) - ORDER
    inner = count - ORDER
    scale = (inner + 1) / (knots[count] - knots[ORDER - 1])
    jumps = knots.new_zeros(inner, count)
    for row in range(inner):
        here = knots[row + ORDER]
        window = knots[row : row + 2 * ORDER + 1]
        steps = here - torch.cat([window[:ORDER], window[ORDER + 1 :]])
        for place in range(ORDER + 1):
            width = window[place + ORDER] - window[place]
            product = steps[place : place + ORDER].prod() * scale ** (ORDER - 1)
            jumps[row, place + row] = width / product
    return jumps


def _smoothest(
    x: Tensor, y: Tensor, smooth: float, knots: Tensor, first: float, error: float
) -> Tensor:
    """Coefficients of the smoothest spline on these knots with a sum of squares of `smooth`.

    The weight `p` of the residuals against the jumps is found by rational interpolation.
    """
    rows, jumps = _basis(knots, x), _jumps(knots)
    target = torch.cat([y, y.new_zeros(len(jumps))])
    close = TOLERANCE * smooth
    low, low_over = 0.0, first - smooth
    high, high_over = -1.0, error - smooth  # below 0: no bound yet, as if infinite
    p = rows.shape[1] / float(_least_squares(rows, y)[1].sum())
    low_known = high_known = False
    coefficients = y.new_zeros(0)
    for _ in range(20):
        coefficients, _ = _least_squares(torch.cat([rows, jumps / p]), target)
        over = float(((rows @ coefficients - y) ** 2).sum()) - smooth
        if abs(over) < close:
            break
        if not high_known and over - high_over <= close:  # p is too large
            high, high_over, tried = p, over, p
            p *= 0.04
            if p <= low:
                p = low * 0.9 + tried * 0.1
            continue
        high_known |= over < 0
        if not low_known and low_over - over <= close:  # p is too small
            low, low_over, tried = p, over, p
            p /= 0.04
            if 0 <= high <= p:
                p = tried * 0.1 + high * 0.9
            continue
        low_known |= over > 0
        if over >= low_over or over <= high_over:
            break
        if high > 0:
            a, b, c = (
                low_over * (over - high_over),
                over * (high_over - low_over),
                high_over * (low_over - over),
            )
            between = -(low * p * c + p * high * a + high * low * b)
            between /= low * a + p * b + high * c
        else:
            between = low * (low_over - high_over) * over - p * (over - high_over) * low_over
            between /= (low_over - over) * high_over
        if over < 0:
            high, high_over = p, over
        else:
            low, low_over = p, over
        p = between
    return coefficients
