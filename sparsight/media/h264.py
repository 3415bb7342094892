"""The order in which H.264 packets are shown, read from their slice headers (ITU-T H.264).

AVI keeps no presentation times, so where frames are reordered the file does not tell which packet
holds the n-th frame. The stream itself does, by its picture order counts (8.2.1). Only what real
encoders write into AVI is read: one frame a packet, as a byte stream, with one sequence parameter
set and counts of type 0. For all else there is no answer, and frames must be counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SLICE, _PARTITION, _IDR, _SPS = 1, 2, 5, 7  # kinds of NAL units (table 7-1)
# Profiles whose parameter sets tell the chroma format (7.3.2.1.1).
_HIGH = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
# What is needed here ends well before these bytes of a slice header and of a parameter set.
_SLICE_HEADER, _PARAMETERS = 64, 4096
_DELAY = 16  # frames that a decoder holds back at most (A.3.1)


@dataclass(frozen=True, eq=False)
class Shown:
    """What N packets told. rank (N,) int64: the index of each one's frame. starts (N,) bool:
    whether it opens a sequence of its own (IDR), so that decoding may begin there."""

    rank: np.ndarray
    starts: np.ndarray


class OrderReader:
    """Is given the packets of a stream in decoding order, then says how they are shown."""

    def __init__(self, extradata: bytes) -> None:
        """`extradata`: what the container keeps of the stream's parameters."""
        self._sets: dict[bytes, _Sequence] = {}
        self._counts: list[tuple[int, int]] = []  # the number of its IDR, its order count
        self._starts: list[bool] = []
        self._idr = self._high = self._low = 0
        self._failed = extradata[:1] == b"\1"  # NAL units with lengths, no byte stream
        if not self._failed:
            self._add(extradata, frames=0)

    def add(self, packet: bytes) -> None:
        """Read the next packet."""
        if not self._failed:
            self._add(packet, frames=1)

    def order(self) -> Shown | None:
        """How the packets given so far are shown; None where that is not certain."""
        counts = self._counts
        if self._failed or len(set(counts)) < max(len(counts), 1):
            return None
        rank = np.empty(len(counts), dtype=np.int64)
        places = np.arange(len(counts))
        rank[sorted(places, key=counts.__getitem__)] = places
        if abs(rank - places).max() > _DELAY:
            return None  # the counts began anew without an IDR
        return Shown(rank, np.array(self._starts))

    def _add(self, packet: bytes, frames: int) -> None:
        try:
            slices = []
            for unit in _units(packet):
                kind = unit[0] & 31
                if kind == _SPS:
                    self._sets[unit] = _Sequence.read(unit)
                elif kind == _PARTITION:
                    raise _OtherKindError
                elif kind in (_SLICE, _IDR) and unit[1] & 128:  # begins with macroblock 0
                    slices.append(unit)
            if len(slices) != frames or len(self._sets) > 1:
                raise _OtherKindError
            for unit in slices:
                self._count(unit)
        except (_OtherKindError, IndexError):
            self._failed = True

    def _count(self, unit: bytes) -> None:
        """The order count of the frame that begins with the slice `unit` (8.2.1.1)."""
        if not self._sets:
            raise _OtherKindError
        (sequence,) = self._sets.values()
        low = sequence.order_count(unit)
        is_idr = unit[0] & 31 == _IDR
        if is_idr:
            self._idr, self._high, self._low = self._idr + 1, 0, 0
        # The low bits are written; the high ones follow from the last reference picture.
        high, half = self._high, sequence.wrap // 2
        if self._low - low >= half:
            high += sequence.wrap
        elif low - self._low > half:
            high -= sequence.wrap
        self._counts.append((self._idr, high + low))
        self._starts.append(is_idr)
        if unit[0] & 0x60:  # other pictures refer to it
            self._high, self._low = high, low


@dataclass(frozen=True)
class _Sequence:
    """What a sequence parameter set says of the slice headers; order counts wrap at `wrap`."""

    planes: bool
    number_bits: int
    order_bits: int
    frames_only: bool

    @property
    def wrap(self) -> int:
        return 1 << self.order_bits

    @classmethod
    def read(cls, unit: bytes) -> _Sequence:
        """Of a NAL unit: 7.3.2.1.1 up to the size of the picture."""
        bits = _Bits(unit[1:_PARAMETERS])
        profile = bits.take(8)
        bits.take(16)  # constraints, level
        bits.number()
        planes = False
        if profile in _HIGH:
            chroma = bits.number()
            planes = chroma == 3 and bits.take(1) == 1
            bits.number()
            bits.number()
            bits.take(1)
            if bits.take(1):
                for size in (*[16] * 6, *[64] * (6 if chroma == 3 else 2)):
                    if bits.take(1):
                        bits.skip_scaling_list(size)
        number_bits = bits.number() + 4
        if bits.number() != 0:
            raise _OtherKindError  # order counts of another type
        order_bits = bits.number() + 4
        if max(number_bits, order_bits) > 16:
            raise _OtherKindError
        bits.number()
        bits.take(1)
        bits.number()
        bits.number()
        return cls(planes, number_bits, order_bits, frames_only=bits.take(1) == 1)

    def order_count(self, unit: bytes) -> int:
        """The low bits of the order count in the header of a slice (7.3.3)."""
        bits = _Bits(unit[1:_SLICE_HEADER])
        for _ in range(3):  # first macroblock, type of slice, parameter set
            bits.number()
        if self.planes:
            bits.take(2)
        bits.take(self.number_bits)
        if not self.frames_only and bits.take(1):
            raise _OtherKindError  # a field, half a frame
        if unit[0] & 31 == _IDR:
            bits.number()
        return bits.take(self.order_bits)


class _OtherKindError(Exception):
    """The stream is of a kind that is not read here."""


class _Bits:
    """The payload of a NAL unit, bit by bit. Raises IndexError behind its end."""

    def __init__(self, payload: bytes) -> None:
        self._bytes = payload.replace(b"\0\0\3", b"\0\0")  # emulation prevention (7.4.1)
        self._at = 0

    def take(self, count: int) -> int:
        """The next `count` bits."""
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | (self._bytes[at >> 3] >> (7 - (at & 7)) & 1)
        self._at += count
        return value

    def number(self) -> int:
        """The next unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_scaling_list(self, size: int) -> None:
        """7.3.2.1.1.1: entries are written until one says that the rest is like the last."""
        last = 8
        for _ in range(size):
            code = self.number()
            last = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            if last == 0:
                return


def _units(stream: bytes) -> list[bytes]:
    """The NAL units of a byte stream (annex B)."""
    return [unit for part in stream.split(b"\0\0\1")[1:] if (unit := part.rstrip(b"\0"))]
