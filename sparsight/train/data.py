"""From a data set to the stream of samples that a stage reads: order, mixing, broken samples.

A stage reads positions 0, 1, 2, ... of its stream; what stands at a position depends on the
recipe alone. So a resumed run skips to its position without reading what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from sparsight.core.errors import UserError

#: What a sample that cannot be read raises; a `UserError` is a ValueError. Other errors are bugs
#: of the data set and end the training.
BROKEN = (ValueError, OSError, EOFError, SyntaxError)
#: So many broken samples in a row are a broken data set.
MOST_BROKEN = 20


class Skipped(NamedTuple):
    """A sample that could not be read: its number in the data set, and why."""

    number: int
    reason: str


class Drawn(NamedTuple):
    """A sample, and those that were skipped on the way to it."""

    sample: Any
    skipped: tuple[Skipped, ...]


class Stream(Dataset):
    """`length` positions of a data set, each prepared as the objective wants it.

    A data set with a method `at(index, epoch)` is read through it, so that augmentation can
    differ between epochs; others by `[index]`.
    """

    def __init__(
        self, data: Dataset, length: int, order: Order, prepare: Callable[[Any], Any]
    ) -> None:
        self.data = data
        self.length = length
        self.order = order
        self.prepare = prepare

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> Drawn:
        """The sample at a position. A broken one is replaced by the next in the data set."""
        index, epoch = self.order(position)
        skipped: list[Skipped] = []
        while True:
            try:
                return Drawn(self.prepare(_read(self.data, index, epoch)), tuple(skipped))
            except BROKEN as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                skipped.append(Skipped(index, reason[:300]))
            if len(skipped) == MOST_BROKEN:
                raise UserError(
                    f"{MOST_BROKEN} samples in a row could not be read; the last, number {index}: "
                    f"{skipped[-1].reason}"
                )
            index = self.order.next(index)


def _read(data: Any, index: int, epoch: int) -> Any:
    at = getattr(data, "at", None)
    return data[index] if at is None else at(index, epoch)


class Order:
    """Which item of the data set stands at which position of the stream: (index, epoch).

    Args:
        count: items of the data set; None where it is endless.
        seed: of the shuffling; None keeps the order.
        lengths: the length of an item by index, to put samples of like length side by side.
        batch: samples that are put side by side.
    """

    def __init__(
        self,
        count: int | None,
        seed: int | None,
        lengths: Callable[[int], float] | None = None,
        batch: int = 1,
    ) -> None:
        self.count = count
        self.seed = seed
        self.lengths = lengths
        self.batch = batch
        self._epoch = lru_cache(maxsize=2)(self._shuffled)
        self._window = lru_cache(maxsize=2)(self._grouped)

    def __call__(self, position: int) -> tuple[int, int]:
        if self.lengths is not None:
            window, place = divmod(position, WINDOW * self.batch)
            position = int(self._window(window)[place])
        return self._plain(position)

    def next(self, index: int) -> int:
        """The item that stands in for one that cannot be read."""
        return index + 1 if self.count is None else (index + 1) % self.count

    def _plain(self, position: int) -> tuple[int, int]:
        if self.count is None:
            return position, 0
        epoch, place = divmod(position, self.count)
        return (place if self.seed is None else int(self._epoch(epoch)[place])), epoch

    def _shuffled(self, epoch: int) -> np.ndarray:
        assert self.count is not None
        return np.random.default_rng([self.seed or 0, 1, epoch]).permutation(self.count)

    def _grouped(self, window: int) -> np.ndarray:
        """The positions of one window, its batches of like length in random order."""
        assert self.lengths is not None
        size = WINDOW * self.batch
        positions = np.arange(window * size, (window + 1) * size)
        lengths = [self.lengths(self._plain(int(p))[0]) for p in positions]
        batches = positions[np.argsort(lengths, kind="stable")].reshape(WINDOW, self.batch)
        return np.random.default_rng([self.seed or 0, 2, window]).permutation(batches).ravel()


#: Batches among which samples are sorted by length.
WINDOW = 32


def order_of(data: Any, seed: int, shuffle: bool, group_by_length: bool, batch: int) -> Order:
    """The order in which a stage reads its data set.

    Raises `UserError` for an empty data set, and for `group_by_length` without lengths.
    """
    count = len(data) if hasattr(data, "__len__") else None
    if count == 0:
        raise UserError("the data set is empty: check what it reads")
    lengths = getattr(data, "length", None) if group_by_length else None
    if group_by_length and lengths is None:
        raise UserError("group_by_length needs a data set with a method length(index)")
    return Order(count, seed if shuffle else None, lengths, batch)


class Mix(Dataset):
    """An endless mixture of data sets in fixed shares, each shuffled anew when it is through.

    Over any `BLOCK` items the shares are met exactly (as far as they can be); within a block the
    sources come in random order. It tells lengths where all its sources do.

    Args:
        sources: name -> data set; those without a length are endless themselves.
        shares: name -> share, in any unit.
    """

    def __init__(
        self, sources: Mapping[str, Dataset], shares: Mapping[str, float], seed: int = 0
    ) -> None:
        if sources.keys() != shares.keys():
            odd = sorted(sources.keys() ^ shares.keys())
            raise UserError(f"a mix needs a data set and a share for each name: {odd[0]!r} has one")
        if not shares or min(shares.values()) <= 0:
            raise UserError("the shares of a mix must be above 0")
        self.names = tuple(sources)
        self.sources: tuple[Any, ...] = tuple(sources.values())
        self.seed = seed
        self.counts = _apportioned([shares[name] for name in self.names], BLOCK)
        self.orders = [
            order_of(source, seed + 1 + place, True, False, 1)
            for place, source in enumerate(self.sources)
        ]

        if all(hasattr(source, "length") for source in self.sources):
            self.length = self._length

    def __getitem__(self, index: int) -> Any:
        return self.at(index, 0)

    def at(self, index: int, epoch: int) -> Any:
        """Item `index`; each source counts its own epochs."""
        source, place = self.source(index)
        item, own_epoch = self.orders[source](place)
        return _read(self.sources[source], item, own_epoch)

    def _length(self, index: int) -> float:
        source, place = self.source(index)
        return float(self.sources[source].length(self.orders[source](place)[0]))

    def source(self, index: int) -> tuple[int, int]:
        """Which source item `index` comes from, and its place in that source's stream."""
        block, place = divmod(index, BLOCK)
        laid = np.repeat(np.arange(len(self.counts)), self.counts)
        laid = np.random.default_rng([self.seed, 3, block]).permutation(laid)
        source = int(laid[place])
        return source, block * self.counts[source] + int((laid[:place] == source).sum())


#: Items over which a mix meets its shares.
BLOCK = 1000


def _apportioned(shares: Sequence[float], total: int) -> list[int]:
    """Whole counts that sum to `total`, at least 1 each, nearest to the shares."""
    exact = np.asarray(shares) / sum(shares) * total
    counts = np.maximum(1, np.floor(exact).astype(int))
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        counts[np.argmax(step * (exact - counts))] += step
    return counts.tolist()
