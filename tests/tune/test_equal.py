"""Baselines at equal cost: what they really spend is what the share was chosen for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.runner import ask_all
from sparsight.tune.compare import BASELINES
from sparsight.tune.equal import Equal, Shares, part_of_full, spent
from sparsight.vlm.pipeline import VLM
from tests.bench.fakes import record
from tests.tune.small import films, pictures
from tests.vlm.tiny import TALL


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [*pictures(3), *films(4)]


@pytest.fixture(scope="module")
def full(vlm: VLM, items: list[Item]) -> list[Record]:
    return ask_all(vlm, items, max_tokens=1)


def mean(records: Sequence[Record], equal: Equal) -> float:
    assert not any(item.error for item in records), [item.error for item in records]
    return sum(spent(item, equal) for item in records) / len(records)


@pytest.mark.parametrize("equal", ["tokens", "flops"])
@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_spends_what_the_system_does(
    vlm: VLM, items: list[Item], full: list[Record], baseline: str, equal: Equal
):
    # Dropped inside the LLM: averaged over layers and squared by attention, so that the same
    # share of tokens is not the same share of operations.
    system = ask_all(vlm.using("fastv", keep=0.2, layer=2), items, max_tokens=1)
    part = part_of_full(system, full, equal)
    assert part is not None
    share = Shares(vlm, items, full, equal).share(baseline, part)
    assert share is not None
    reached = ask_all(vlm.using(baseline, keep=share), items, max_tokens=1)
    # random and uniform leave any number; a grid cannot be divided at will
    near = {"tokens": 0.03, "flops": 0.01}[equal] * (1 if baseline in ("random", "uniform") else 4)
    assert mean(reached, equal) == pytest.approx(mean(system, equal), rel=near)


def test_separators_that_stay_are_counted(vlm: VLM):
    asked = pictures(2, TALL)
    full = ask_all(vlm, asked, max_tokens=1)
    kept = 0.5 * full[0].visual_mean
    share = Shares(vlm, asked, full, "tokens").share("random", 0.5)
    assert share is not None
    assert share < 0.499  # half of all tokens is less than half of those that may go
    [reached, _] = ask_all(vlm.using("random", keep=share), asked, max_tokens=1)
    assert abs(reached.visual_mean - kept) <= 0.5


def test_of_equal_shares_the_roundest_is_taken_whoever_asks_first(vlm: VLM, items, full):
    parts = (0.25, 0.2500001, 0.2499999)
    shares = [Shares(vlm, items, full, "tokens") for _ in range(2)]
    first = [shares[0].share("uniform", part) for part in parts]
    second = [shares[1].share("uniform", part) for part in parts[::-1]]
    assert len({*first, *second}) == 1
    assert first[0] is not None
    assert first[0] * 1000 == pytest.approx(round(first[0] * 1000))


def test_the_whole_is_the_share_of_one(vlm: VLM, items, full):
    for baseline in BASELINES:
        assert Shares(vlm, items, full, "tokens").share(baseline, 1.0) == 1.0


def test_what_no_baseline_can_reach_is_none(vlm: VLM, items, full):
    tower = sum(item.flops["tower"] for item in full) / sum(spent(item, "flops") for item in full)
    assert Shares(vlm, items, full, "flops").share("pool", 0.8 * tower) is None
    assert Shares(vlm, items, full, "tokens").share("random", 0.001) is None


def test_the_part_is_of_items_that_both_answered():
    full = [record("a", visual_mean=100.0), record("b", visual_mean=50.0), record("c")]
    failed = {"error": "odd", "flops": {}, "visual_mean": 0.0}
    some = [record("a", visual_mean=20.0), record("b", visual_mean=25.0), record("c", **failed)]
    assert part_of_full(some, full, "tokens") == 45 / 150
    assert part_of_full(some[2:], full[2:], "tokens") is None
    assert part_of_full(full, full, "flops") == 1.0


def test_decoding_is_not_counted_but_choosing_frames_is():
    flops = {"tower": 4.0, "prefill": 2.0, "decode": 100.0, "select": 3.0}
    assert spent(record("a", flops=flops), "flops") == 9.0


def test_nothing_is_encoded_before_a_share_is_wanted(vlm: VLM, full, monkeypatch):
    looked = []
    encode = VLM.encode
    monkeypatch.setattr(
        VLM, "encode", lambda self, *args, **kw: looked.append(1) or encode(self, *args, **kw)
    )
    items = [*pictures(3), *films(4)]
    shares = Shares(vlm, items, full, "tokens")
    assert looked == []
    shares.share("random", 0.5)
    shares.share("pool", 0.3)
    assert len(looked) == len(items)  # once each, however many shares are tried
