from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.media import Limits, load, parse_selection
from sparsight.media.index import JUMP, Run, plan
from tests.media.conftest import frame_of

FORMATS = [
    ("a.mp4", "libx264"),
    ("a.mov", "libx264"),
    ("a.mkv", "libx264"),
    ("a.ts", "libx264"),
    ("a.avi", "libx264"),
    ("a.mp4", "libx265"),
    ("a.avi", "mpeg4"),
    ("a.mpg", "mpeg1video"),
    ("a.ts", "mpeg2video"),
    ("a.webm", "libvpx"),
    ("a.webm", "libvpx-vp9"),
    ("a.mkv", "ffv1"),
    ("a.mov", "mjpeg"),
]


def sequential(path: Path) -> list[np.ndarray]:
    """Every frame by plain decoding from the start."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def number_of(frame: torch.Tensor) -> int:
    """Which of ten frames `frame_of` made this one (grey levels 17 apart)."""
    grey = float(frame[30:, 40:].float().mean())
    return min(range(10), key=lambda n: abs(grey - float(frame_of(n)[40, 50, 0])))


@pytest.mark.parametrize(("name", "codec"), FORMATS)
def test_any_frames_equal_plain_sequential_decoding(name, codec, film: Callable[..., Path]):
    rate = 25 if codec.startswith(("mpeg1", "mpeg2")) else 10
    options = {} if codec in ("mjpeg", "ffv1") else {"g": "8", "bf": "2"}
    colours = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = film(name, codec=codec, frames=30, rate=rate, options=options, pix_fmt=colours)
    expected = sequential(path)
    clip = load(path, backend="pyav")
    assert (clip.kind, clip.size) == ("film", (48, 64))
    assert len(clip) == len(expected)
    for wanted in ([0], [len(clip) - 1], [17, 3, 3, 9, 25], list(range(len(clip)))):
        for frame, i in zip(clip.frames(wanted).numpy(), wanted, strict=True):
            assert np.array_equal(frame, expected[i])


def test_true_times_of_a_film_of_variable_rate(film):
    times = [0, 4, 10, 50, 51, 52, 90, 200, 210, 300]
    clip = load(film("a.mkv", frames=10, times=times))
    assert clip.timestamps.tolist() == pytest.approx([t / 100 for t in times])
    assert clip.timestamps.dtype == torch.float64
    picked = parse_selection("at:0.11,1.99,2.0").indices(clip)
    assert picked == [2, 6, 7]
    assert [number_of(frame) for frame in clip.frames(picked)] == picked


def test_a_film_that_starts_late_keeps_its_clock(film):
    clip = load(film("a.mkv", frames=5, times=[800, 810, 820, 830, 840]))
    assert clip.timestamps.tolist() == pytest.approx([8.0, 8.1, 8.2, 8.3, 8.4])
    assert clip.duration == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("turn", [90, 180, 270, -90])
def test_rotation_metadata_is_applied(turn, film):
    path = film("a.mp4", turn=turn)
    upright = np.stack([np.rot90(frame, turn // 90) for frame in sequential(path)])
    clip = load(path)
    assert clip.size == ((64, 48) if turn % 180 else (48, 64))
    assert np.array_equal(clip.frames().numpy(), upright)


def test_key_frames_are_those_of_the_file(film):
    clip = load(
        film("a.mp4", frames=20, options={"g": "8", "keyint_min": "8", "sc_threshold": "0"})
    )
    assert clip.key_frames == (0, 8, 16)
    assert parse_selection("keyframes").indices(clip) == [0, 8, 16]


def test_the_content_decides_not_the_name(film, tmp_path):
    path = film("a.mp4").rename(tmp_path / "a.png")
    assert load(path).kind == "film"


def test_bytes_and_path_give_the_same_film(film):
    path = film("a.mp4")
    from_path, from_bytes = load(path), load(path.read_bytes())
    assert from_path.digest() == from_bytes.digest()
    assert torch.equal(from_path.frames([3, 11]), from_bytes.frames([3, 11]))


def test_digest_follows_the_content(film):
    same, other = film("a.mp4"), film("b.mp4", frames=19)
    assert load(same).digest() == load(same, backend="pyav").digest()
    assert load(same).digest() != load(other).digest()


def test_threads_may_share_a_clip(film):
    clip = load(film("a.mp4", frames=30))
    expected = clip.frames()
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 30, 10).tolist():
            if not torch.equal(clip.frames([i])[0], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_file_stays_open_after_a_request(film):
    path = film("a.mp4")
    clip = load(path)
    clip.frames([0, 5])
    clip.frames([1])
    held = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert path.resolve() not in [link.resolve() for link in held]


def test_no_frame_is_decoded_twice_and_none_without_need(film, monkeypatch):
    path = film("a.mp4", frames=40, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    clip = load(path, backend="pyav")
    from sparsight.media import decoding as module

    fed: list[int] = []
    decoded = module._decoded

    def counting(context, packet):
        if packet is not None:
            fed.append(packet.pts)
        return decoded(context, packet)

    monkeypatch.setattr(module, "_decoded", counting)
    clip.frames([12, 32, 12, 35])
    assert len(fed) == len(set(fed)) == 3 + 6  # 10 to 12, 30 to 35


def test_runs_start_at_key_packets_and_join_where_they_are_near(film):
    options = {"g": "10", "keyint_min": "10", "bf": "0", "sc_threshold": "0"}
    index = load(film("a.mp4", frames=60, options=options), backend="pyav").source.index
    assert plan(index, [3, 25, 28, 59]) == [Run(0, 3), Run(20, 28), Run(50, 59)]
    assert plan(index, [10 - JUMP, 12]) == [Run(0, 12)]
    assert plan(index, [9 - JUMP - 1, 12]) == [Run(0, 8 - JUMP), Run(10, 12)]


def test_a_wrong_key_flag_costs_time_but_no_frame(film):
    clip = load(film("a.mp4", frames=30), backend="pyav")
    expected = clip.frames()
    index = clip.source.index
    broken = type(index)(
        **{**vars(index), "keys": np.array([0, 5]), "key_dts": index.key_dts[[0, 0]]}
    )
    film_source = type(clip.source)(**{**vars(clip.source), "index": broken, "opened": []})
    assert torch.equal(film_source.decode([29, 7]), expected[[29, 7]])


def test_sound_alone_is_no_film(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"a\.mp4: the file holds sound but no film"):
        load(path)


def test_a_film_without_frames_is_refused(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(UserError, match=r"a\.mkv: "):
        load(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.mpg", "a.webm"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_film_cut_off_gives_what_is_there_or_one_clear_line(name, share, film):
    codec = {"a.mpg": "mpeg1video", "a.webm": "libvpx"}.get(name, "libx264")
    path = film(name, frames=50, codec=codec, rate=25, options={"g": "8"})
    whole = load(path).frames()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    try:
        clip = load(path)
        there = clip.frames([0, len(clip) // 2])
    except UserError:
        return
    assert len(clip) <= len(whole)
    if len(clip) > 1:  # MPG does not tell that its last frame is cut
        assert torch.equal(there, whole[[0, len(clip) // 2]])
    with pytest.raises(UserError, match="no frame 50"):
        clip.frames([50])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_mutated_films_never_raise_anything_else(name, film):
    original = np.frombuffer(film(name, frames=6).read_bytes(), dtype=np.uint8)
    random = np.random.default_rng(2)
    for _ in range(40):
        mutated = original.copy()
        mutated[random.integers(0, len(mutated), 8)] = random.integers(0, 255, 8)
        with suppress(UserError):
            frames = load(mutated.tobytes(), limits=Limits(pixels=10**6)).frames([0, -1])
            assert (len(frames), frames.dtype) == (2, torch.uint8)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(frames=19), "limit frames=19"),
        (Limits(duration=1.9), r"limit duration=1\.9"),
        (Limits(pixels=64 * 48 - 1), "film of 64x48 is above the limit pixels=3,071"),
        (Limits(bytes=100), "limit bytes=100"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_films_above_a_limit_are_refused(name, limits, message, film):
    path = film(name)
    with pytest.raises(UserError, match=message):
        load(path, limits=limits)
    load(path, limits=Limits(frames=20, duration=2.1, pixels=64 * 48, bytes=None))


def test_more_decoded_bytes_than_allowed_are_refused_before_decoding(film):
    frame = 64 * 48 * 3
    clip = load(film("a.mp4"), limits=Limits(decoded_bytes=3 * frame))
    assert len(clip.frames([0, 1, 2])) == 3
    with pytest.raises(UserError, match="4 frames of 64x48 is above the limit decoded_bytes"):
        clip.frames([0, 1, 2, 2])


def test_a_film_of_a_hundred_thousand_frames_is_refused_within_a_second(tmp_path):
    path = tmp_path / "long.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
        (packet,) = stream.encode(frame) or stream.encode(None)
        body = bytes(packet)
        for i in range(100_000):
            copy = av.Packet(body)
            copy.pts = copy.dts = i
            copy.time_base, copy.stream, copy.is_keyframe = Fraction(1, 1000), stream, True
            container.mux(copy)
    began = time.perf_counter()
    with pytest.raises(UserError, match="above the limit frames"):
        load(path)
    assert time.perf_counter() - began < 2  # one second on a machine of one's own


def test_play_lists_are_not_followed(tmp_path, film):
    film("a.ts")
    for head in ("#EXTM3U\n#EXTINF:10,\na.ts\n", "ffconcat version 1.0\nfile a.ts\n"):
        path = tmp_path / "list.mp4"
        path.write_text(head)
        with pytest.raises(UserError, match="neither a picture nor a film"):
            load(path)


def test_an_unknown_backend_is_named(film):
    with pytest.raises(UserError, match=r"unknown backend 'pyaw'; did you mean 'pyav'"):
        load(film("a.mp4"), backend="pyaw")


def test_streams_are_chosen_by_number(film):
    path = film("a.mp4", tone=440.0)
    assert torch.equal(load(path, stream=0).frames([2]), load(path).frames([2]))
    with pytest.raises(UserError, match="stream 1 is not a video stream; those are 0"):
        load(path, stream=1)
