"""A comparison: every plan beside the full model and beside baselines of equal cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.store import Store
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan, parse_system
from sparsight.tune.compare import BASELINES, Comparison, Impossible, compare, entrants
from sparsight.tune.rows import Row
from sparsight.vlm.pipeline import VLM
from tests.tune.small import films, pictures


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [*pictures(1), *films(1)]


@pytest.fixture(autouse=True)
def loaded(vlm: VLM) -> None:
    """The catalogue is full."""


class Note:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.answers: Counter[str] = Counter()

    def impossible(self, found: Impossible) -> None:
        self.told.append(f"no {found.label}")

    def begins(self, model: str, label: str, items: int) -> None:
        self.told.append(f"{label} {items}")

    def recorded(self, record: Record) -> None:
        self.answers[self.told[-1]] += 1

    def summed(self, row: Row) -> None:
        self.told.append(f"end {row.label}")


def labels(found: Comparison) -> list[str]:
    return [row.label for row in found.rows]


# What is compared


def test_a_system_comes_at_every_budget_and_one_without_budgets_once():
    found = entrants(["fastv:layer=1", "tome"], [0.5, 4])
    assert [each.label for each in found] == [
        "fastv:layer=1,keep=0.5", "fastv:layer=1,keep=4", "tome",
    ]  # fmt: skip
    assert [parse_system(each.label) for each in found] == [e.plan.systems[0] for e in found]
    assert found[1].plan.systems[0].keep == 4


def test_a_budget_of_its_own_goes_before_those_of_all():
    found = entrants(["random:seed=3,keep=0.3", "random:seed=3"], [0.5])
    assert [each.label for each in found] == ["random:seed=3,keep=0.3", "random:seed=3,keep=0.5"]
    assert {each.role for each in found} == {"baseline"}


def test_plans_keep_their_frames_and_name():
    plan = Plan(systems=(parse_system("fastervlm"), parse_system("fastv")), frames="uniform:2")
    [found] = entrants([], [0.5], [("mine", plan)], seed=4)
    assert (found.label, found.plan, found.role) == ("mine", plan, "system")
    assert entrants(["tome"], [0.5], seed=4)[0].plan.seed == 4


@pytest.mark.parametrize(
    ("system", "words"),
    [("fastevlm", "did you mean 'fastervlm'"), ("fastv:layr=1", "knob of fastv"),
     ("flashvid", "keep='3' is not allowed")],
)  # fmt: skip
def test_a_mistake_is_told_before_anything(system: str, words: str):
    with pytest.raises(UserError, match=words):
        entrants([system], [3])


# The comparison


def test_each_system_is_followed_by_its_baselines(vlm: VLM, items: list[Item]):
    note = Note()
    found = compare(vlm, entrants(["fastervlm"], [0.5]), items, max_tokens=1, watch=note)
    full, system, *baselines = found.rows
    assert (full.role, system.role) == ("full", "system")
    assert [row.role for row in baselines] == ["baseline"] * 4
    assert tuple(row.label for row in baselines) == system.beside
    assert tuple(label.partition(":")[0] for label in system.beside) == BASELINES
    for row in baselines:
        assert row.visual_mean == pytest.approx(system.visual_mean, rel=0.12)
        assert row.count == full.count == 2
    assert baselines[0].visual_mean == pytest.approx(system.visual_mean, rel=0.02)
    assert note.told[:3] == ["full 2", "end full", "fastervlm:keep=0.5 2"]
    assert set(note.answers.values()) == {2}
    assert {row.model for row in found.rows} == {vlm.plan.model}
    assert found.records["full"][0].item == items[0].id
    assert list(found.vlms) == list(found.records) == labels(found)


def test_equal_baselines_are_asked_once(vlm: VLM, items: list[Item]):
    field = entrants(["fastervlm", "visionzip", "random"], [0.5])
    note = Note()
    found = compare(vlm, field, items, max_tokens=1, watch=note)
    assert len(labels(found)) == len(set(labels(found)))
    shared = set(found.rows[1].beside) & set(
        next(row for row in found.rows if row.label.startswith("visionzip")).beside
    )
    assert shared
    assert sum(told.startswith("random:keep=0.5 ") for told in note.told) == 1
    # one that was asked for itself has no baselines beside it
    assert not next(row for row in found.rows if row.label == "random:keep=0.5").beside


def test_equal_operations_are_not_equal_tokens(vlm: VLM, items: list[Item]):
    field = entrants(["tome:r=2"], [0.5])
    by_tokens = compare(vlm, field, items, max_tokens=1)
    assert labels(by_tokens) == ["full", "tome:r=2"]  # it leaves the LLM all tokens
    by_flops = compare(vlm, field, items, max_tokens=1, equal="flops")
    system = by_flops.rows[1]
    assert len(system.beside) + len(by_flops.impossible) == 4
    for row in by_flops.rows[2:]:
        before = {name: count for name, count in row.flops.items() if name != "decode"}
        theirs = {name: count for name, count in system.flops.items() if name != "decode"}
        assert sum(before.values()) == pytest.approx(sum(theirs.values()), rel=0.05)


def test_without_baselines_there_are_none(vlm: VLM, items: list[Item]):
    found = compare(vlm, entrants(["fastervlm"], [0.5]), items, max_tokens=1, baselines=False)
    assert labels(found) == ["full", "fastervlm:keep=0.5"]


def test_what_the_model_cannot_do_is_told_first_and_left_out(vlm: VLM, items: list[Item]):
    note = Note()
    field = entrants(["fastv:layer=9", "fastervlm"], [0.5])
    found = compare(vlm, field, items, max_tokens=1, baselines=False, watch=note)
    assert note.told[0] == "no fastv:layer=9,keep=0.5"
    assert labels(found) == ["full", "fastervlm:keep=0.5"]
    [left_out] = found.impossible
    assert "fastv:layer=9,keep=0.5 is not possible on" in str(left_out)
    assert left_out.reason


def test_a_system_that_fails_on_some_items_goes_on(vlm: VLM, items: list[Item]):
    found = compare(vlm, entrants(["dycoke:layer=1"], [0.5]), items, max_tokens=1)
    row = found.rows[1]
    assert (row.failures, row.count) == (1, 2)
    assert row.reasons == {"dycoke works on films, and none was given": 1}
    assert row.beside
    assert 0 < row.share < 1


def test_a_system_that_fails_on_all_has_no_baselines(vlm: VLM):
    found = compare(vlm, entrants(["dycoke:layer=1"], [0.5]), pictures(1), max_tokens=1)
    assert labels(found) == ["full", "dycoke:layer=1"]
    assert found.rows[1].failures == 1


def test_the_same_plan_twice_is_one_row(vlm: VLM, items: list[Item]):
    again = Plan(systems=(parse_system("fastervlm:keep=0.5"),))
    field = entrants(["fastervlm"], [0.5], [("mine", again)])
    found = compare(vlm, field, items, max_tokens=1, baselines=False)
    assert labels(found) == ["full", "fastervlm:keep=0.5"]


def test_a_seed_is_that_of_the_baselines_too(vlm: VLM, items: list[Item]):
    field = entrants(["fastervlm"], [0.5], seed=5)
    found = compare(vlm, field, items, max_tokens=1, seed=5)
    random = next(row for row in found.rows if row.label.startswith("random"))
    assert random.label.endswith(",seed=5")
    assert random.knobs["random"]["seed"] == 5
    assert all("seed: 5" in row.plan for row in found.rows)


def test_a_comparison_that_goes_on_gives_the_same_rows(vlm: VLM, items: list[Item], tmp_path: Path):
    field = entrants(["fastervlm"], [0.5])
    with Store(tmp_path) as store:
        first = compare(vlm, field, items, max_tokens=1, store=store)
    with Store(tmp_path) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(VLM, "chat_batch", lambda *_, **__: pytest.fail("asked again"))
        again = compare(vlm, field, items, max_tokens=1, store=store)
    assert again.rows == first.rows
