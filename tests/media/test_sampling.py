from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.media.sampling import at, fps, parse_selection, uniform

sizes = st.integers(1, 400)


@given(sizes, sizes, st.sampled_from(["linspace", "centers"]))
def test_uniform_gives_the_count_asked_sorted_and_unique(total, count, ends):
    picked = uniform(total, count, ends)
    assert len(picked) == min(total, count)
    assert picked == sorted(set(picked))
    assert 0 <= picked[0] <= picked[-1] < total


@given(sizes, st.integers(2, 400))
def test_linspace_holds_both_ends_and_equals_llavas_formula(total, count):
    picked = uniform(total, count, "linspace")
    assert (picked[0], picked[-1]) == (0, total - 1)
    if count < total:
        assert picked == np.linspace(0, total - 1, count, dtype=int).tolist()


@given(sizes, sizes)
def test_centers_are_mirror_images(total, count):
    picked = uniform(total, count, "centers")
    # An exact mid-point between two frames goes to the later one, so mirrored it is one off.
    mirrored = [total - 1 - i for i in reversed(picked)]
    assert all(0 <= a - b <= 1 for a, b in zip(picked, mirrored, strict=True))


def test_the_two_conventions_differ_by_the_ends():
    assert uniform(100, 4, "linspace") == [0, 33, 66, 99]
    assert uniform(100, 4, "centers") == [12, 37, 62, 87]
    assert uniform(101, 1, "linspace") == [0]
    assert uniform(101, 1, "centers") == [50]


def test_more_frames_than_there_are_gives_each_once():
    assert uniform(3, 10, "centers") == [0, 1, 2]
    assert fps([0.0, 0.1, 0.2], 1000) == [0, 1, 2]


@given(st.integers(1, 300), st.sampled_from([1, 5, 24, 25, 29.97, 30, 60]), st.integers(1, 30))
def test_fps_of_a_steady_film_picks_one_frame_an_instant(total, film_rate, rate):
    times = [i / film_rate for i in range(total)]
    picked = fps(times, rate)
    instants = np.arange(0, total / film_rate - 1e-5, 1 / rate)
    assert picked == at(times, instants.tolist())


@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=60), st.floats(0.01, 50))
def test_fps_never_repeats_and_starts_with_the_first_frame(steps, rate):
    picked = fps(np.cumsum(steps), rate)
    assert picked == sorted(set(picked))
    assert picked[0] == 0


def test_fps_follows_true_times_where_the_rate_varies():
    # ten frames in the first second, then one a second
    times = [i / 10 for i in range(10)] + [1.0, 2.0, 3.0]
    assert fps(times, 1) == [0, 10, 11, 12]


def test_at_gives_the_frame_shown_then():
    times = [0.5, 1.0, 2.0]
    assert at(times, [0.0, 0.99, 1.0, 1.999, 50.0]) == [0, 1, 2]


@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=60), st.data())
def test_at_equals_a_plain_search(steps, data):
    times = np.cumsum(steps).tolist()
    second = data.draw(st.floats(0, times[-1] + 1))
    shown = [i for i, t in enumerate(times) if t <= second + 1e-6]
    assert at(times, [second]) == [shown[-1] if shown else 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uniform:3", [0, 4, 9]),
        ("centers:2", [2, 7]),
        ("fps:1", [0, 5]),
        ("at:0.5,1.9", [2, 9]),
        ("at:0.21", [1]),
        ("keyframes", list(range(10))),
        (" all ", list(range(10))),
    ],
)
def test_a_selection_in_text_picks_frames(text, expected):
    clip = Clip.from_frames(torch.zeros(10, 2, 2, 3, dtype=torch.uint8), fps=5)
    selection = parse_selection(text)
    assert selection.indices(clip) == expected
    assert parse_selection(str(selection)) == selection


@pytest.mark.parametrize(
    "text",
    [
        *("", "uniform", "uniform:", "uniform:0", "uniform:2.5", "uniform:2,3", "unifrom:8", "8"),
        *("at:", "at:x", "at:-1", "at:inf", "fps:0", "fps:nan", "all:3", "keyframes:"),
    ],
)
def test_a_wrong_selection_is_one_clear_line(text):
    with pytest.raises(UserError, match=r"frame selection .*(form|known)"):
        parse_selection(text)


def test_a_time_past_the_end_is_refused():
    clip = Clip.from_frames(torch.zeros(10, 2, 2, 3, dtype=torch.uint8), fps=5, origin="a.mp4")
    with pytest.raises(UserError, match=r"a\.mp4: nothing is shown at 9 s"):
        parse_selection("at:9").indices(clip)


@pytest.mark.parametrize("text", ["uniform:8", "centers:8", "fps:2", "at:0", "keyframes", "all"])
def test_a_picture_gives_its_one_frame_under_every_rule(text):
    picture = Clip.from_picture(torch.zeros(2, 2, 3, dtype=torch.uint8))
    assert parse_selection(text).indices(picture) == [0]
