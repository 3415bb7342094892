"""What a comparison says: no more than its numbers do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsight.tune.verdicts import (
    cautions,
    conclusion,
    foremost,
    keeps,
    points,
    rival,
    verdict,
)
from tests.tune.made import field, full, row


def test_the_conclusion_names_the_leanest_row_that_keeps_the_accuracy():
    assert conclusion(field()) == (
        "On 100 questions, 3 of 6 plans are within noise of the full model (80 % right): the "
        "leanest, holitom:keep=0.1 with 10 % of the visual tokens, has 77 % (-3.0 points, 95 % "
        "interval -9.0 to +3.0); the best baseline there, random:keep=0.1, falls behind (60 %)."
    )


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.77, "the baseline random:keep=0.1 is as good there (77 %)"),
        (0.9, "the baseline random:keep=0.1 is as good there (90 %)"),
        (0.7, "the baseline random:keep=0.1 is not clearly worse there (70 %)"),
        (0.6, "the best baseline there, random:keep=0.1, falls behind (60 %)"),
    ],
)
def test_a_baseline_that_is_as_good_is_said_so_plainly(accuracy: float, words: str):
    # However good it is, it is not what keeps the accuracy: that is tested elsewhere.
    beside = row("random:keep=0.1", accuracy, 0.1, "baseline", p_value=0.01, diff=-0.1)
    lean = row("holitom:keep=0.1", 0.77, 0.1, beside=("random:keep=0.1",))
    assert words in conclusion([full(), lean, beside])


def test_a_baseline_may_itself_be_the_leanest():
    rows = [full(), row("holitom:keep=0.5", 0.79, 0.5), row("pool:keep=0.1", 0.78, 0.1, "baseline")]
    assert "the leanest, pool:keep=0.1" in conclusion(rows)
    assert conclusion(rows).endswith("it is a baseline, and no system does with fewer tokens.")


def test_without_a_baseline_at_the_budget_the_conclusion_says_so():
    assert "no baseline was asked at that budget" in conclusion([full(), row("a", 0.79)])


def test_where_nothing_keeps_the_accuracy_the_nearest_is_named():
    rows = [full(), row("a:keep=0.5", 0.7, 0.5), row("b:keep=0.1", 0.4, 0.1)]
    told = conclusion(rows)
    assert told.startswith("On 100 questions, none of 2 plans is within noise of the full model")
    assert "the nearest, a:keep=0.5 with 50 % of the visual tokens, has 70 % (-10.0" in told


def test_one_row_alone_and_one_plan_are_told_in_good_grammar():
    assert conclusion([full()]) == "On 100 questions, the full model alone was asked: 80 % right."
    assert "1 of 1 plan is within noise" in conclusion([full(), row("a", 0.79)])


def test_a_row_that_answered_nothing_keeps_nothing():
    broken = row("a", 0.0, p_value=1.0, failures=100)
    assert not keeps(broken)
    assert "none of 1 plan" in conclusion([full(), broken])


def test_a_clear_gain_keeps_the_accuracy_and_a_clear_loss_does_not():
    better, worse = row("a", 0.9, p_value=0.01), row("b", 0.7, p_value=0.01)
    unclear = row("c", 0.7, p_value=0.05)
    assert [keeps(item) for item in (better, worse, unclear)] == [True, False, True]
    told = [verdict(item) for item in (better, worse, unclear)]
    assert told == ["better", "worse", "no clear difference"]


def test_the_rival_is_the_best_baseline_beside_a_row_not_of_another_budget_or_model():
    mine = row("a:keep=0.1", 0.7, 0.1, beside=("random:keep=0.1", "pool:keep=0.1"))
    random, pool = (row(f"{name}:keep=0.1", 0.6, 0.1, "baseline") for name in ("random", "pool"))
    pool = replace(pool, accuracy=0.65, interval95=(0.57, 0.73))
    richer = row("random:keep=0.5", 0.8, 0.5, "baseline")
    other = replace(random, model="other", accuracy=0.9)
    found = rival(mine, [mine, random, pool, richer, other])
    assert found is not None
    assert found.row is pool
    assert found.standing == "not clearly behind"


def test_a_row_without_named_baselines_is_set_against_those_with_no_more_tokens():
    mine = row("a", 0.7, 0.1)
    near, richer = row("r:1", 0.5, 0.109, "baseline"), row("r:2", 0.8, 0.2, "baseline")
    found = rival(mine, [mine, near, richer])
    assert found is not None
    assert found.row is near
    assert rival(mine, [mine, richer]) is None


def test_cautions_tell_how_small_a_difference_can_be_seen():
    assert cautions([full(), row("a", 0.79)])[0] == (
        "With 100 questions, differences to the full model below about 6.0 points do not show: "
        "ask more questions before relying on it."
    )
    sharp = row("a", 0.79, diff_interval=(-0.02, 0.0))
    assert cautions([full(), sharp])[0].endswith("below about 1.0 points do not show.")
    same = row("a", 0.8, diff_interval=(0.0, 0.0))
    assert not any("do not show" in note for note in cautions([full(), same]))


def test_cautions_warn_of_many_tests():
    few = [full(), *(row(f"s{place}", 0.79) for place in range(19))]
    assert not any("by chance" in note for note in cautions(few))
    many = [*few, row("s19", 0.79)]
    assert any("Of 20 tests at the 5 % level, about 1 call" in note for note in cautions(many))


def test_cautions_count_what_is_no_better_than_a_baseline():
    notes = cautions(field())
    assert "2 of 4 plans are no more accurate than a baseline beside it: random." in notes
    ahead = [item for item in field() if not item.label.startswith("fastv")]
    assert "No baseline is as accurate as any of the 2 plans set beside it." in cautions(ahead)


def test_cautions_count_failures():
    rows = [full(), row("a", 0.79, failures=2), row("b", 0.7, failures=5)]
    assert cautions(rows)[-1] == (
        "2 plans failed on some questions, which count as wrong answers; most often b, on 5 of 100."
    )


def test_the_foremost_rows_are_the_full_model_the_front_and_its_rivals_in_their_order():
    chosen = [item.label for item in foremost(field(), 5)]
    assert chosen == [
        "full", "holitom:keep=0.5", "holitom:keep=0.1", "random:keep=0.5", "random:keep=0.1",
    ]  # fmt: skip
    assert foremost(field(), 99) == field()


def test_differences_carry_their_sign_and_zero_none():
    assert [points(value) for value in (-0.008, 0.0131, 0.0, -0.0001)] == [
        "-0.8", "+1.3", "0.0", "0.0",
    ]  # fmt: skip
