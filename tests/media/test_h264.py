"""The order in which H.264 packets are shown, against the order in which FFmpeg shows them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from sparsight.media.h264 import OrderReader, Shown
from tests.media.conftest import write_film

# What encoders vary that the order, or the headers on the way to it, depend on.
KINDS = {
    "two in a row": {"g": "12", "bf": "2"},
    "eight in a row": {"g": "250", "bf": "8", "x264-params": "ref=16"},
    "pyramid": {"g": "250", "x264-params": "bframes=5:b-pyramid=strict:b-adapt=0"},
    "open groups": {"g": "8", "x264-params": "open-gop=1:bframes=3"},
    "interlaced": {"g": "12", "x264-params": "interlaced=1:bframes=3"},
    "slices": {"g": "12", "x264-params": "slices=2:bframes=3:b-adapt=0:scenecut=0"},
    "scaling lists": {"g": "12", "x264-params": "cqm=jvt:bframes=2"},
    "headers repeated": {"g": "5", "x264-params": "repeat-headers=1:aud=1:bframes=2"},
    "no group ends": {"x264-params": "intra-refresh=1:keyint=250:bframes=2"},
}


def packets_of(path: Path) -> tuple[list[bytes], bytes]:
    """The packets of an AVI film in decoding order, and its extradata."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return packets, stream.codec_context.extradata or b""


def shown_by_ffmpeg(path: Path) -> list[int]:
    """The place of each frame's packet, in the order in which the decoder gives the frames."""
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        order = []
        for place, packet in enumerate(container.demux(video=0)):
            packet.pts = place if packet.size else None
            order += [frame.pts for frame in context.decode(packet if packet.size else None)]
        return order


def order_of(packets: list[bytes], extradata: bytes) -> Shown | None:
    reader = OrderReader(extradata)
    for packet in packets:
        reader.add(packet)
    return reader.order()


def unit(header: int, *fields: int | str) -> bytes:
    """A NAL unit as it stands in a byte stream: numbers as Exp-Golomb codes, texts as bits."""
    codes = (bin(field + 1)[2:] for field in fields if isinstance(field, int))
    bits = "".join(
        field if isinstance(field, str) else code.zfill(2 * len(code) - 1)
        for field in fields
        for code in ([next(codes)] if isinstance(field, int) else [""])
    )
    bits += "1" + "0" * (-len(bits) - 1 & 7)
    payload = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    guarded = bytearray()
    for byte in payload:
        if byte < 4 and guarded[-2:] == b"\0\0":
            guarded.append(3)
        guarded.append(byte)
    return b"\0\0\1" + bytes([header]) + bytes(guarded)


def parameters(bits: int, *, frames_only: bool = True, profile: int = 77, high: str = "") -> bytes:
    """A parameter set whose frame numbers and order counts take `bits` bits."""
    sizes = (4, "0", 19, 14)  # reference frames, no gaps, width and height in macroblocks
    fields = (f"{profile:08b}", "0" * 16, 0, high, bits - 4, 0, bits - 4, *sizes)
    return unit(0x67, *fields, str(int(frames_only)))


def frame(count: int, bits: int, kind: str = "P", more: str = "") -> bytes:
    """A packet: an IDR frame "I", another one "P", or "B", one that no other refers to."""
    header = {"I": 0x65, "P": 0x41, "B": 0x01}[kind]
    number = ("0" * bits, more, *([0] if kind == "I" else []))
    return unit(header, 0, 7, 0, *number, f"{count % (1 << bits):0{bits}b}", "1" * 20)


def ranks(packets: list[bytes], extradata: bytes) -> list[int] | None:
    shown = order_of(packets, extradata)
    return None if shown is None else shown.rank.tolist()


@pytest.fixture
def encoded(tmp_path) -> tuple[list[bytes], bytes]:
    return packets_of(write_film(tmp_path / "a.avi", frames=12, options={"g": "6", "bf": "2"}))


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_the_order_is_that_of_the_decoder(options, tmp_path):
    path = write_film(tmp_path / "a.avi", frames=60, options=options)
    order = shown_by_ffmpeg(path)
    assert order != sorted(order)  # some frame is moved
    shown = order_of(*packets_of(path))
    assert shown is not None
    assert np.argsort(shown.rank).tolist() == order


@pytest.mark.parametrize(("more", "starts"), [("", [0, 10, 20]), (":open-gop=1", [0])])
def test_decoding_may_begin_at_idr_frames_alone(more, starts, tmp_path):
    options = {"g": "10", "x264-params": "bframes=2:scenecut=0" + more}
    path = write_film(tmp_path / "a.avi", frames=30, options=options)
    shown = order_of(*packets_of(path))
    assert shown is not None
    assert np.flatnonzero(shown.starts).tolist() == starts


def test_order_counts_that_wrap_go_on_rising(tmp_path):
    options = {"g": "400", "x264-params": "bframes=3:b-adapt=0:scenecut=0"}
    path = write_film(tmp_path / "a.avi", frames=400, options=options)
    shown = order_of(*packets_of(path))
    assert shown is not None
    assert np.argsort(shown.rank).tolist() == shown_by_ffmpeg(path)


def test_high_bits_follow_from_the_last_reference_frame():
    # Four bits: 18 is written as 2, and lies above 12 but not above 9, to which none refers.
    given = [(0, "I"), (6, "P"), (3, "B"), (12, "P"), (9, "B"), (18, "P"), (16, "B")]
    packets = [frame(count, 4, kind) for count, kind in given]
    assert ranks(packets, parameters(4)) == [0, 2, 1, 4, 3, 6, 5]


def test_bytes_that_guard_against_start_codes_are_no_part_of_the_header():
    packets = [frame(0, 16, "I"), frame(3, 16), frame(1, 16, "B"), frame(2, 16, "B")]
    assert all(b"\0\0\3" in packet for packet in packets[1:])
    assert ranks(packets, parameters(16)) == [0, 3, 1, 2]


def test_scaling_lists_are_passed_over():
    # 4:2:0, 8 bits; of eight lists the first ends at its second entry: 8, then 8 - 8 = 0
    lists = "1" + "1" + "000010001" + "0" * 6 + "1" + "1" * 64
    packets = [frame(0, 8, "I"), frame(4, 8), frame(2, 8, "B")]
    high = parameters(8, profile=100, high="010" + "1" + "1" + "0" + "1" + lists)
    assert ranks(packets, high) == [0, 2, 1]


def test_fields_have_no_order_but_frames_that_might_be_have_one():
    both = parameters(8, frames_only=False)
    frames = [frame(0, 8, "I", "0"), frame(4, 8, "P", "0"), frame(2, 8, "B", "0")]
    assert ranks(frames, both) == [0, 2, 1]
    assert ranks([*frames, frame(6, 8, "P", "10")], both) is None


def test_counts_that_begin_anew_without_an_idr_frame_have_no_order():
    packets = [frame(0, 16, "I")] + [frame(2 * i, 16) for i in range(1, 30)]
    assert ranks(packets, parameters(16)) == list(range(30))
    assert ranks([*packets, frame(1, 16)], parameters(16)) is None


def test_two_parameter_sets_have_no_order():
    packets = [frame(0, 8, "I"), frame(2, 8)]
    assert ranks(packets, parameters(8)) == [0, 1]
    assert ranks(packets, parameters(8) + parameters(9)) is None


def test_there_is_no_order_without_packets_or_parameters(encoded):
    packets, extradata = encoded
    assert order_of([], extradata) is None
    start = packets[0].find(b"\0\0\1\x65")  # behind what the first packet says of the stream
    assert order_of([packets[0][start:], *packets[1:]], b"") is None


def test_a_packet_of_two_frames_or_none_has_no_order(encoded):
    packets, extradata = encoded
    assert order_of([packets[0] + packets[1], *packets[2:]], extradata) is None
    assert order_of([packets[0], b"\0\0\1\x09\xf0", *packets[1:]], extradata) is None


def test_packets_that_repeat_have_no_order(encoded):
    packets, extradata = encoded
    assert order_of([packets[0], packets[1], packets[1]], extradata) is None


def test_units_with_lengths_are_not_read(tmp_path):
    packets, extradata = packets_of(write_film(tmp_path / "a.mp4", frames=12))
    assert order_of(packets, extradata) is None
    assert order_of([frame(0, 8, "I")], b"\1" + parameters(8)) is None


def test_whatever_the_bytes_it_never_raises(encoded):
    packets, extradata = encoded
    random = np.random.default_rng(3)
    found = 0
    for _ in range(300):
        mutated = [np.frombuffer(packet, np.uint8).copy() for packet in packets]
        for _ in range(4):
            packet = mutated[random.integers(len(mutated))]
            packet[random.integers(min(len(packet), 60))] = random.integers(256)
        shown = order_of([packet.tobytes() for packet in mutated], extradata)
        if shown is not None:
            found += 1
            assert sorted(shown.rank.tolist()) == list(range(len(packets)))
    assert 0 < found < 300
    assert order_of([b"", b"\0\0\1", b"\0" * 99], extradata) is None
