"""Asking all items: once each, with what it cost, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sparsight.systems
from sparsight.bench.record import Record
from sparsight.bench.runner import ask_all, fingerprint, frames_of, run_of
from sparsight.bench.store import Store
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan, parse_system
from tests.bench.fakes import FakeVLM, Weights, exactly, item

ITEMS = [item(name) for name in "abcde"]


def names(vlm: FakeVLM) -> list[str]:
    return [question[0] for questions, _ in vlm.asked for question in questions]


def raised_from(inner: BaseException, outer: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def test_records_hold_the_score_and_the_cost():
    vlm = FakeVLM({"b?": "no"})
    first, second = ask_all(vlm, ITEMS[:2])
    assert (first.item, first.reply, first.score, first.right) == ("a", "yes", 1.0, True)
    assert (second.item, second.reply, second.score, second.right) == ("b", "no", 0.0, False)
    assert (first.visual_seen, first.visual_kept, first.visual_mean) == (64, 32, 24.0)
    assert first.flops == {"tower": 4e9, "prefill": 2e9, "decode": 1e9}
    assert first.kv_bytes == 1000
    assert first.stages == {"encode": 0.2, "prefill": 0.4}
    assert (first.first_token, first.total, first.own) == (0.7, 0.8, 0.04)
    assert first.error is None


def test_a_batch_shares_its_seconds_and_bytes_but_not_the_wait():
    vlm = FakeVLM()
    found = ask_all(vlm, ITEMS, batch=2)
    assert [len(questions) for questions, _ in vlm.asked] == [2, 2, 1]
    assert [record.item for record in found] == list("abcde")
    pair, single = found[0], found[4]
    assert pair.total == pytest.approx(single.total / 2)
    assert pair.own == pytest.approx(single.own / 2)
    assert pair.stages["encode"] == pytest.approx(single.stages["encode"] / 2)
    assert pair.kv_bytes == single.kv_bytes
    assert pair.first_token == single.first_token


def test_only_items_of_one_frame_selection_are_asked_together():
    vlm = FakeVLM()
    some = [replace(each, frames=frames) for each, frames in zip(ITEMS, "xxyyy", strict=True)]
    ask_all(vlm, some, batch=4)
    assert [(len(questions), frames) for questions, frames in vlm.asked] == [(2, "x"), (3, "y")]


def test_a_plan_that_says_which_frames_goes_before_the_item():
    sparsight.systems.load()
    asked = item("a", frames="all")
    assert frames_of(FakeVLM(), asked) == "all"
    assert frames_of(FakeVLM(plan=Plan(frames="uniform:4")), asked) is None
    choosing = Plan(systems=(parse_system("ts-llava"),))
    assert frames_of(FakeVLM(plan=choosing), asked) is None


def test_what_is_known_is_not_asked_again(tmp_path: Path):
    with Store(tmp_path) as store:
        first = ask_all(FakeVLM(), ITEMS[:3], store=store)
    told: list[Record] = []
    vlm = FakeVLM()
    with Store(tmp_path) as store:
        found = ask_all(vlm, ITEMS[::-1], store=store, on_record=told.append)
    assert names(vlm) == ["e", "d"]
    assert [record.item for record in found] == list("edcba")
    assert found[:1:-1] == first
    assert sorted(record.item for record in told) == list("abcde")


@pytest.mark.parametrize(
    "other",
    [
        {"vlm": FakeVLM(plan=Plan(seed=1))},
        {"vlm": FakeVLM(plan=Plan(model="another"))},
        {"data": "other.jsonl"},
        {"max_tokens": 5},
        {"batch": 2},
        {"items": [item("a", question="a, really?")]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_setting_is_asked_anew(tmp_path: Path, other: dict[str, Any]):
    with Store(tmp_path) as store:
        ask_all(FakeVLM(), ITEMS[:1], store=store, data="my.jsonl")
        given = {"vlm": FakeVLM(), "items": ITEMS[:1], "data": "my.jsonl", **other}
        vlm = given["vlm"]
        ask_all(vlm, given.pop("items"), **{k: v for k, v in given.items() if k != "vlm"},
                store=store)  # fmt: skip
        assert names(vlm) == ["a"]


def test_other_weights_are_another_run():
    changed = Weights()
    with torch.no_grad():
        changed.weight[0] += 1
    assert fingerprint(changed) != fingerprint(Weights())
    assert fingerprint(Weights()) == fingerprint(Weights())
    settings = run_of(FakeVLM()).settings
    assert settings["weights"] == fingerprint(Weights())
    assert settings["versions"]["torch"] == torch.__version__
    assert settings["versions"]["sparsight"] == sparsight.__version__


def test_a_known_reply_is_scored_by_the_scorer_of_now(tmp_path: Path):
    with Store(tmp_path) as store:
        ask_all(FakeVLM(), ITEMS[:1], store=store)
        vlm = FakeVLM()
        [found] = ask_all(vlm, [item("a", score=exactly("no"))], store=store)
    assert vlm.asked == []
    assert (found.score, found.right) == (0.0, False)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (UserError("a.png: the file is empty"), "a.png: the file is empty"),
        (RuntimeError("odd\nsecond line"), "RuntimeError: odd"),
        (AssertionError(), "AssertionError"),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_failing_item_is_a_wrong_answer_and_the_others_go_on(
    failure: Exception, words: str, batch: int
):
    vlm = FakeVLM({"b?": failure})
    found = ask_all(vlm, ITEMS, batch=batch)
    assert [record.error for record in found] == [None, words, None, None, None]
    assert not found[1].right
    assert [record.right for record in found].count(True) == 4


def test_a_medium_that_cannot_be_made_fails_its_item_alone():
    def broken() -> None:
        raise UserError("no such scene")

    found = ask_all(FakeVLM(), [item("a", media=(broken,)), item("b")])
    assert [record.error for record in found] == ["no such scene", None]


@pytest.mark.parametrize(
    "failure",
    [
        KeyboardInterrupt(),
        raised_from(KeyboardInterrupt(), RuntimeError("library")),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        ConnectionRefusedError("endpoint"),
        TimeoutError("endpoint"),
    ],
)
def test_what_is_not_the_items_fault_stops_and_goes_on_later(tmp_path: Path, failure: Any):
    with Store(tmp_path) as store:
        with pytest.raises(type(failure)):
            ask_all(FakeVLM({"c?": failure}), ITEMS, store=store)
        vlm = FakeVLM()
        found = ask_all(vlm, ITEMS, store=store)
    assert names(vlm) == ["c", "d", "e"]
    assert all(record.right for record in found)


def test_a_failure_is_kept_so_that_a_run_that_goes_on_ends_the_same(tmp_path: Path):
    with Store(tmp_path) as store:
        first = ask_all(FakeVLM({"b?": UserError("broken")}), ITEMS, store=store)
        vlm = FakeVLM()
        assert ask_all(vlm, ITEMS, store=store) == first
    assert vlm.asked == []


def test_a_warm_start_is_asked_and_forgotten(tmp_path: Path):
    vlm = FakeVLM()
    with Store(tmp_path) as store:
        found = ask_all(vlm, ITEMS[:2], store=store, warm=True)
        assert names(vlm) == ["a", "a", "b"]
        assert [record.item for record in found] == ["a", "b"]
        ask_all(vlm, ITEMS[:2], store=store, warm=True)  # nothing is left to be asked
    assert len(names(vlm)) == 3


def test_a_small_model_answers_with_what_it_took(vlm: Any):
    from tests.vlm.tiny import WIDE

    asked = [item(name, media=(WIDE,), question=f"what is {name} ?") for name in "ab"]
    plain: Sequence[Record] = ask_all(vlm, asked, max_tokens=2)
    cut = ask_all(vlm.using("fastervlm", keep=0.5).using("fastv", keep=0.5, layer=1), asked)
    for whole, part in zip(plain, cut, strict=True):
        assert whole.own == 0.0
        assert 0 < part.own < part.total
        assert part.visual_mean < part.visual_kept < whole.visual_kept == whole.visual_seen
        assert part.flops["prefill"] < whole.flops["prefill"]
        assert sum(part.stages.values()) <= part.total
        assert whole.memory >= 0
