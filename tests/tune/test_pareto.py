"""The picture of accuracy over cost, by its geometry."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.tune.axes import cost_axis, share_axis
from sparsight.tune.front import unbeaten
from sparsight.tune.labels import Box, place_labels, shortened, text_width
from sparsight.tune.pareto import NARROW, WIDE, Point, Size, pareto_picture
from sparsight.tune.rows import Role

# The front


def test_the_front_leaves_out_what_another_plan_beats():
    #         cheap, poor  dearer, better  dear, poorer  dearest, as good  best
    points = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (4.0, 0.7), (5.0, 0.9)]
    assert unbeaten(points) == [0, 1, 4]


def test_of_equal_costs_the_better_and_of_equal_plans_the_first_is_on_the_front():
    assert unbeaten([(1.0, 0.5), (1.0, 0.6), (1.0, 0.6)]) == [1]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_whatever_is_not_on_the_front_is_beaten_or_equalled_by_something_on_it(points):
    best = unbeaten(points)
    for at, (cost, gain) in enumerate(points):
        rivals = [points[other] for other in best if other != at]
        beaten = any(c <= cost and g >= gain for c, g in rivals)
        assert beaten != (at in best)


# Axes


def test_costs_far_apart_are_on_a_log_scale_and_close_ones_are_not():
    assert cost_axis([1e9, 2e10]).log
    assert not cost_axis([1e9, 3e9]).log
    assert not cost_axis([0.0, 3e9]).log


@pytest.mark.parametrize("values", [[3.0, 70.0, 900.0], [0.2, 0.21], [5.0], [0.0]])
def test_an_axis_holds_all_values_in_order_with_room_and_round_marks(values: list[float]):
    axis = cost_axis(values)
    places = [axis.at(value) for value in values]
    assert places == sorted(places)
    assert all(0 < place < 1 for place in places)
    assert axis.marks
    assert all(axis.low <= mark <= axis.high for mark in axis.marks)


def test_a_log_axis_gives_equal_factors_equal_room():
    axis = cost_axis([1.0, 100.0])
    assert axis.at(10) - axis.at(1) == pytest.approx(axis.at(100) - axis.at(10))


def test_an_axis_of_shares_stays_within_none_and_all():
    axis = share_axis([0.0, 1.0])
    assert (axis.low, axis.high) == (0.0, 1.0)
    assert axis.marks == pytest.approx((0.0, 0.5, 1.0)) or len(axis.marks) > 3


# Names

FRAME = Box(0, 0, 400, 300)
SPOTS = st.tuples(st.integers(0, 400), st.integers(0, 300))


@settings(max_examples=60)
@given(st.lists(st.tuples(SPOTS, st.text("abcdefgh", min_size=1, max_size=18)), max_size=25))
def test_names_never_overlap_cover_a_point_or_leave_the_frame(named):
    points = [spot for spot, _ in named]
    labels = place_labels(points, [text for _, text in named], FRAME, radius=5, size=12)
    boxes = [label.box for label in labels if label is not None]
    assert not any(one.meets(other) for one, other in combinations(boxes, 2))
    marks = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    assert not any(box.meets(mark) for box in boxes for mark in marks)
    assert all(box.within(FRAME) for box in boxes)


def test_a_crowded_name_moves_out_and_a_line_leads_to_it():
    crowd = [(x, y) for x in (176.0, 188.0, 212.0, 224.0) for y in (128.0, 140.0, 160.0, 172.0)]
    points = [(200.0, 150.0), (40.0, 40.0), *crowd]
    names = ["crowded", "alone", *[""] * len(crowd)]
    middle, free, *_ = place_labels(points, names, FRAME, radius=5, size=12)
    assert free is not None
    assert free.line is None
    assert middle is not None
    assert middle.line == (206, 150, 230, 150)
    assert middle.box.left == 230


def test_a_name_without_room_is_left_out_and_the_first_ones_come_first():
    points = [(20.0, 15.0)] * 9
    labels = place_labels(points, ["name"] * 9, Box(0, 0, 70, 30), radius=5, size=12)
    assert labels[0] is not None
    assert labels[-1] is None


def test_no_line_crosses_a_name():
    points = [(float(x), float(y)) for x in range(150, 250, 12) for y in range(100, 160, 12)]
    labels = place_labels(points, ["some name"] * len(points), FRAME, radius=4, size=10)
    placed = [label for label in labels if label is not None]
    lines = [label.line for label in placed if label.line is not None]
    assert lines
    for x, y, to_x, to_y in lines:
        middle = (x + to_x) / 2, (y + to_y) / 2
        assert not any(label.box.holds(*middle) for label in placed)


def test_long_names_are_cut_and_wide_letters_count_double():
    assert shortened("short", 10, 200) == "short"
    cut = shortened("a very long name indeed", 10, 80)
    assert cut.endswith("...")
    assert text_width(cut, 10) <= 80
    assert text_width("漢字", 10) == 20


# The picture


def point(cost: float, accuracy: float, label: str, role: Role = "system") -> Point:
    interval = (accuracy - 0.05, accuracy + 0.05)
    return Point(cost, accuracy, interval, label, label.partition(":")[0], role)


POINTS = [
    point(100, 0.8, "full", "full"),
    point(50, 0.78, "a:keep=0.5"),
    point(10, 0.6, "a:keep=0.1"),
    point(50, 0.7, "random:keep=0.5", "baseline"),
    point(10, 0.5, "random:keep=0.1", "baseline"),
]


def picture(points: list[Point] = POINTS, size: Size = WIDE) -> ElementTree.Element:
    return ElementTree.fromstring(pareto_picture(points, "cost", lambda cost: f"{cost:g}", size))


def tips(svg: ElementTree.Element, role: str) -> list[ElementTree.Element]:
    groups = [item for item in svg.iter("g") if "data-tip" in item.attrib]
    return [item for item in groups if role in item.get("class", "").split()]


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_every_point_is_drawn_with_its_interval_inside_the_picture(size: Size):
    svg = picture(size=size)
    drawn = [item for role in ("full", "system", "baseline") for item in tips(svg, role)]
    assert len(drawn) == len(POINTS)
    for group in drawn:
        _, high, low = map(float, re.findall(r"[\d.]+", group[0].get("d", ""))[:3])
        assert 0 < low < high < size.height
    for text in svg.iter("text"):
        assert 0 <= float(text.get("x", "")) <= size.width


def test_a_tip_tells_accuracy_interval_and_cost_in_words():
    assert [item.get("data-tip") for item in tips(picture(), "full")] == [
        "full: 80 % (75 % to 85 %), 100, on the front"
    ]


def test_the_front_is_a_staircase_and_its_points_are_marked():
    svg = picture()
    (path,) = [item for item in svg.iter("path") if item.get("class") == "front"]
    assert re.sub(r"[\d. ]", "", path.get("d", "")) == "MHVHVH"
    best = {item.get("data-tip", "").partition(": ")[0] for item in tips(svg, "best")}
    assert best == {"full", "a:keep=0.5", "a:keep=0.1"}


def test_the_budgets_of_a_baseline_are_joined_and_the_roles_differ_in_shape():
    svg = picture()
    (line,) = [item for item in svg.iter("path") if item.get("class") == "baseline line"]
    assert line.get("d", "").count("L") == 1
    shapes = {role: tips(svg, role)[0][1] for role in ("full", "system", "baseline")}
    assert shapes["system"].tag == "circle"
    assert shapes["baseline"].tag == shapes["full"].tag == "rect"
    assert "transform" in shapes["full"].attrib
    assert "transform" not in shapes["baseline"].attrib


def test_a_baseline_is_named_once_and_a_narrow_picture_names_fewer():
    many = [point(cost, 0.3 + cost / 200, f"s{cost}") for cost in range(10, 100, 3)]

    def names(svg: ElementTree.Element) -> list[str]:
        groups = [item for item in svg.iter("g") if "name" in item.get("class", "").split()]
        return [text.text or "" for group in groups for text in group.iter("text")]

    assert [name for name in names(picture()) if "random" in name] == ["random:keep=0.5"]
    assert len(names(picture(many, NARROW))) <= NARROW.names < len(names(picture(many)))


def test_one_point_and_equal_points_can_be_drawn():
    assert len(tips(picture([POINTS[0]]), "full")) == 1
    assert len(tips(picture([POINTS[1]] * 3), "system")) == 3
