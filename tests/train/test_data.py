"""The stream of samples: order, mixing, length groups, schedules."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset

from sparsight.core.errors import UserError
from sparsight.train.data import BLOCK, WINDOW, Mix, Stream, order_of
from sparsight.train.schedule import share


class Numbers(Dataset):
    def __init__(self, count: int, name: str = "n") -> None:
        self.count = count
        self.name = name

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, int]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.name, index

    def length(self, index: int) -> float:
        return float(index % 7)


class Endless(Dataset):
    def __getitem__(self, index: int) -> int:
        return index


class Epochal(Numbers):
    def at(self, index: int, epoch: int) -> tuple[int, int]:
        return index, epoch


def drawn(data: Any, length: int, seed: int = 0, shuffle: bool = True, **options: Any) -> list[Any]:
    given = {"group_by_length": False, "batch": 1, **options}
    stream = Stream(data, length, order_of(data, seed, shuffle, **given), lambda item: item)
    return [stream[place].sample for place in range(len(stream))]


def test_each_epoch_is_a_new_shuffle_of_everything():
    found = [index for _, index in drawn(Numbers(10), 30)]
    epochs = [found[:10], found[10:20], found[20:]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert found == [index for _, index in drawn(Numbers(10), 30)]
    assert found != [index for _, index in drawn(Numbers(10), 30, seed=1)]


def test_data_that_tells_epochs_apart_is_told():
    assert [epoch for _, epoch in drawn(Epochal(4), 10)] == [0] * 4 + [1] * 4 + [2] * 2


def test_order_is_kept_without_shuffling_and_without_end():
    assert drawn(Numbers(3), 4, shuffle=False) == [("n", 0), ("n", 1), ("n", 2), ("n", 0)]
    assert drawn(Endless(), 5) == [0, 1, 2, 3, 4]


def test_batches_of_like_length_hold_everything_once():
    batch, count = 4, 2 * WINDOW * 4
    found = [index for _, index in drawn(Numbers(count), count, group_by_length=True, batch=batch)]
    assert sorted(found) == list(range(count))
    spread = [np.ptp([i % 7 for i in found[at : at + batch]]) for at in range(0, count, batch)]
    assert max(spread) <= 1
    means = [np.mean([i % 7 for i in found[at : at + batch]]) for at in range(0, count, batch)]
    assert means != sorted(means)  # the batches themselves come in any order


def test_a_mix_meets_its_shares_and_goes_through_each_source():
    mix = Mix({"a": Numbers(50, "a"), "b": Numbers(3000, "b")}, {"a": 1, "b": 3}, seed=1)
    found = drawn(mix, 2 * BLOCK)
    counts = Counter(name for name, _ in found[:BLOCK])
    assert counts == {"a": BLOCK // 4, "b": 3 * BLOCK // 4}
    small = Counter(index for name, index in found if name == "a")
    assert set(small.values()) == {2 * BLOCK // 4 // 50}
    assert max(Counter(index for name, index in found if name == "b").values()) == 1
    assert found == drawn(mix, 2 * BLOCK)
    runs = sum(a[0] != b[0] for a, b in pairwise(found))
    assert runs > BLOCK // 4  # they come mixed, not one behind the other


def test_a_mix_tells_each_source_its_own_epoch():
    mix = Mix({"a": Epochal(10), "b": Endless()}, {"a": 1.0, "b": 1.0})
    epochs = [item[1] for item in drawn(mix, BLOCK) if isinstance(item, tuple)]
    assert epochs == [place // 10 for place in range(BLOCK // 2)]


def test_a_mix_of_tiny_shares_has_something_of_each():
    mix = Mix({"a": Endless(), "b": Numbers(5)}, {"a": 1e9, "b": 1.0})
    assert sum(isinstance(item, tuple) for item in drawn(mix, BLOCK)) == 1


def test_a_mix_tells_lengths_where_its_sources_do():
    mix = Mix({"a": Numbers(50), "b": Numbers(30)}, {"a": 1.0, "b": 1.0})
    assert all(mix.length(place) == mix[place][1] % 7 for place in range(40))
    assert not hasattr(Mix({"a": Numbers(5), "b": Endless()}, {"a": 1.0, "b": 1.0}), "length")


def test_a_mix_that_does_not_add_up_is_refused():
    with pytest.raises(UserError, match="'b' has one"):
        Mix({"a": Endless()}, {"a": 1.0, "b": 1.0})
    with pytest.raises(UserError, match="above 0"):
        Mix({"a": Endless()}, {"a": 0.0})


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_rates_rise_then_follow_the_schedule(schedule: str):
    shares = [share(step, 100, schedule, warmup=0.1, floor=0.2) for step in range(100)]
    assert shares[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert shares[10] == 1.0
    end = 1.0 if schedule == "constant" else 0.2
    assert shares[-1] == pytest.approx(end, abs=0.01)
    assert shares[10:] == sorted(shares[10:], reverse=True)
    middle = {"cosine": 0.6, "linear": 0.6, "constant": 1.0}
    assert shares[55] == pytest.approx(middle[schedule], abs=0.01)


def test_without_warmup_the_first_step_has_the_peak():
    assert share(0, 10, "cosine") == 1.0
