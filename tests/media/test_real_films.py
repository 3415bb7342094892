"""The real clips: frames that must come out bit for bit, and every codec and container."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from sparsight.media import Limits, load, parse_selection
from sparsight.media.torchcodec_film import TorchcodecFilm, decoders

FILMS = [
    "odd/discard_first_keyframe.mp4",
    "video/codec/av1_video.mkv",
    "video/codec/bt2020_10bit.mp4",
    "video/codec/bt709_full_range.mp4",
    "video/codec/h264_10bits.mp4",
    "video/codec/h265_10bits.mp4",
    "video/codec/h265_video.mp4",
    "video/codec/nasa_13013.mp4",
    "video/codec/nasa_13013_hdr.mp4",
    "video/codec/nasa_13013_rotated.mp4",
    "video/codec/sine_stereo_mp2.mpg",
    "video/codec/test_non_zero_start.mp4",
    "video/codec/testsrc2_444_8bit_hevc.mp4",
    "video/codec/testsrc2_mpeg4.avi",
    "video/codec/testsrc2_odd_height_and_width_vp9.mp4",
    "video/codec/testsrc2_vp8.webm",
    "video/codec/testsrc2_vp9.webm",
    "video/grid_lipreading/bbaf2n.mpg",
    "video/mmaction2_test.avi",
    "video/stllm_driving.mp4",
    "video/llavamini_safari.mp4",
]


@pytest.mark.parametrize(
    ("stream", "index"), [(3, 0), (3, 15), (3, 389), (0, 15)], ids=lambda value: str(value)
)
def test_reference_frames_come_out_bit_for_bit(shared_data: Path, stream, index):
    folder = shared_data / "video/reference_frames"
    frames = np.load(folder / "reference_frames.npz")
    clip = load(shared_data / "video/codec/nasa_13013.mp4", stream=stream, backend="pyav")
    expected = frames[f"nasa_13013.mp4.stream{stream}.frame{index:06d}"]
    assert np.array_equal(clip.frames([index])[0].numpy(), expected)


def test_the_best_stream_is_the_default(shared_data: Path):
    frames = np.load(shared_data / "video/reference_frames/reference_frames.npz")
    clip = load(shared_data / "video/codec/nasa_13013.mp4")
    assert clip.size == (270, 480)
    # the reference is the first frame from six seconds on
    shown = parse_selection("at:6.0061").indices(clip)
    assert np.array_equal(clip.frames(shown)[0].numpy(), frames["nasa_13013.mp4.time6.000000"])


@pytest.mark.parametrize("stream", [0, 3])
def test_times_equal_the_reference_times(shared_data: Path, stream):
    name = f"video/reference_frames/nasa_13013.mp4.stream{stream}.all_frames_info.json"
    expected = [float(row["pts_time"]) for row in json.loads((shared_data / name).read_text())]
    clip = load(shared_data / "video/codec/nasa_13013.mp4", stream=stream)
    assert clip.timestamps.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", FILMS)
def test_every_codec_equals_plain_sequential_decoding(shared_data: Path, name):
    clip = load(shared_data / name, backend="pyav")
    wanted = sorted({*parse_selection("centers:5").indices(clip), *clip.key_frames[-2:]})
    times, expected = [], {}
    with av.open(shared_data / name) as container:
        stream = container.streams.best("video")
        for i, frame in enumerate(container.decode(stream)):
            times.append(frame.time)
            if i in wanted:
                turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                expected[i] = turned
    assert len(clip) == len(times)
    if name != "video/mmaction2_test.avi":  # its frames are reordered, which AVI cannot tell
        assert clip.timestamps.tolist() == pytest.approx(times)
    for i, frame in zip(wanted, clip.frames(wanted).numpy(), strict=True):
        assert np.array_equal(frame, expected[i]), i


def test_a_film_that_starts_late_keeps_its_clock(shared_data: Path):
    clip = load(shared_data / "video/codec/test_non_zero_start.mp4")
    assert clip.timestamps[0] == pytest.approx(8.333008, abs=1e-5)


def test_a_dropped_first_key_frame_is_no_frame_of_the_film(shared_data: Path):
    clip = load(shared_data / "odd/discard_first_keyframe.mp4")
    assert (len(clip), clip.timestamps[0]) == (25, 0)


def test_an_animated_gif_is_a_film(shared_data: Path):
    clip = load(shared_data / "video/quiltllava_demo_terminal.gif")
    assert (clip.kind, len(clip), clip.size) == ("film", 723, (502, 912))
    assert clip.duration == pytest.approx(21.69)


def test_a_request_above_the_limit_says_so(shared_data: Path):
    clip = load(shared_data / "video/quiltllava_histopathology_teaser.mp4")
    with pytest.raises(ValueError, match="64 frames of 3840x1850 is above the limit decoded_bytes"):
        clip.frames(parse_selection("uniform:64").indices(clip))


@pytest.mark.skipif(decoders() is None, reason="torchcodec does not import here")
@pytest.mark.parametrize("name", FILMS)
def test_torchcodec_gives_the_very_same_film_or_leaves_it_to_pyav(shared_data: Path, name):
    limits = Limits(decoded_bytes=None)
    reference = load(shared_data / name, backend="pyav", limits=limits)
    chosen = load(shared_data / name, backend="auto", limits=limits)
    assert chosen.digest() == reference.digest()
    assert chosen.timestamps.equal(reference.timestamps)
    if isinstance(chosen.source, TorchcodecFilm):
        chosen = load(shared_data / name, backend="torchcodec", limits=limits)
    for rule in ("uniform:8", "keyframes"):
        wanted = parse_selection(rule).indices(reference)
        assert chosen.frames(wanted).equal(reference.frames(wanted))


@pytest.mark.skipif(decoders() is not None, reason="torchcodec imports here")
def test_asking_for_torchcodec_where_it_does_not_import_says_so(shared_data: Path):
    with pytest.raises(ValueError, match="torchcodec does not import here"):
        load(shared_data / "video/stllm_driving.mp4", backend="torchcodec")
