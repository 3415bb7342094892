"""One door: every kind of source, and every fault one clear line."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparsight.core.errors import UserError
from sparsight.media import Access, Limits, load
from tests.media.conftest import frame_of

RGB = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)


def png(pixels: np.ndarray = RGB) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_path_may_be_text_or_a_path(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png())
    for source in (tmp_path / "a.png", str(tmp_path / "a.png")):
        clip = load(source)
        assert (clip.origin, clip.size) == ("a.png", (5, 7))
        assert np.array_equal(clip.frames()[0].numpy(), RGB)


def test_a_clip_is_returned_as_it_is():
    clip = load(png())
    assert load(clip) is clip


@pytest.mark.parametrize(
    "header",
    ["data:image/png;base64", "data:;base64", "DATA:image/png;name=a;BASE64", "data:base64;base64"],
)
def test_data_urls_load(header):
    clip = load(f"{header},{base64.b64encode(png()).decode()}")
    assert np.array_equal(clip.frames()[0].numpy(), RGB)


def test_a_data_url_may_be_percent_encoded():
    clip = load("data:image/png," + "".join(f"%{byte:02x}" for byte in png()))
    assert np.array_equal(clip.frames()[0].numpy(), RGB)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,a@b", "not valid base64"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,aGVsbG8gd29ybGQ=", "neither a picture nor a film"),
    ],
)
def test_wrong_data_urls_are_one_clear_line(url, message):
    with pytest.raises(UserError, match=message):
        load(url)


def test_a_data_url_above_the_limit_is_not_decoded():
    with pytest.raises(UserError, match="the data URL: its size is above the limit bytes"):
        load("data:;base64," + "A" * 1000, limits=Limits(bytes=100))


@pytest.mark.parametrize(
    ("shape", "size", "total"),
    [
        ((5, 7, 3), (5, 7), 1),
        ((3, 5, 7), (5, 7), 1),
        ((4, 5, 7, 3), (5, 7), 4),
        ((4, 3, 5, 7), (5, 7), 4),
        ((5, 7), (5, 7), 1),
        ((1, 1, 3), (1, 1), 1),
        ((3, 1, 1), (1, 1), 1),
        ((3, 5, 3), (3, 5), 1),  # both could be channels: the last is
        ((1, 1), (1, 1), 1),
    ],
)
def test_tensors_in_either_layout_follow_the_stated_rule(shape, size, total):
    values = torch.arange(int(np.prod(shape)), dtype=torch.int64).remainder(251).byte()
    tensor = values.reshape(shape)
    clip = load(tensor)
    assert (clip.size, len(clip)) == (size, total)
    assert clip.kind == ("film" if len(shape) == 4 else "picture")
    if shape == (4, 3, 5, 7):
        assert torch.equal(clip.frames(), tensor.permute(0, 2, 3, 1))


@pytest.mark.parametrize("shape", [(5,), (5, 7, 4), (2, 5, 7), (2, 5, 7, 1), (0, 3, 3), (2,) * 5])
def test_other_shapes_are_refused(shape):
    for source in (torch.zeros(shape, dtype=torch.uint8), np.zeros(shape, dtype=np.uint8)):
        with pytest.raises(UserError, match=r"given (array|tensor): .*shape"):
            load(source)


def test_numpy_is_always_channels_last():
    assert load(RGB).size == (5, 7)
    assert len(load(np.stack([RGB, RGB]))) == 2
    with pytest.raises(UserError, match="shape"):
        load(RGB.transpose(2, 0, 1).copy())


def test_floating_point_pixels_lie_in_zero_to_one():
    values = RGB / 255
    for source in (values, values.astype(np.float32), torch.tensor(values)):
        assert np.array_equal(load(source).frames()[0].numpy(), RGB)
    for wrong in (values * 255, values - 0.5, np.full((2, 2), np.nan)):
        with pytest.raises(UserError, match="must lie in 0 to 1"):
            load(wrong)


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, bool, complex, "U1"])
def test_other_types_of_pixels_are_refused(dtype):
    with pytest.raises(UserError, match=r"uint8"):
        load(np.zeros((2, 2, 3), dtype=dtype))


def test_arrays_are_copied_and_told_apart():
    array = RGB.copy()
    clip = load(array)
    array[:] = 0
    assert np.array_equal(clip.frames()[0].numpy(), RGB)
    flat = np.arange(90, dtype=np.uint8)
    assert load(flat.reshape(5, 6, 3)).digest() != load(flat.reshape(6, 5, 3)).digest()


def test_arrays_above_a_limit_are_refused():
    with pytest.raises(UserError, match="limit pixels=34"):
        load(RGB, limits=Limits(pixels=34))
    with pytest.raises(UserError, match="limit frames=1"):
        load(np.stack([RGB, RGB]), limits=Limits(frames=1))


def test_pillow_images_load_alone_and_as_frames():
    image = Image.fromarray(RGB)
    assert load(image).kind == "picture"
    film = load([image, image], fps=4)
    assert (film.kind, film.timestamps.tolist()) == ("film", [0, 0.25])
    with pytest.raises(UserError, match="one size"):
        load([image, image.resize((2, 2))])
    with pytest.raises(UserError, match="empty"):
        load([])


@pytest.mark.parametrize("source", [None, 3, object(), ["a.png", "b.png"], {"a": 1}])
def test_other_sources_are_refused_without_their_repr(source):
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load(source)
    assert "0x" not in str(caught.value)


def test_a_folder_of_frames_is_a_film_in_natural_order(tmp_path: Path):
    for i in (10, 9, 1, 2):
        Image.fromarray(frame_of(i)).save(tmp_path / f"frame{i}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    clip = load(tmp_path, fps=2)
    assert (clip.kind, clip.size, len(clip)) == ("film", (48, 64), 4)
    assert clip.timestamps.tolist() == [0, 0.5, 1, 1.5]
    expected = np.stack([frame_of(i) for i in (1, 2, 9, 10)])
    assert np.array_equal(clip.frames().numpy(), expected)
    assert np.array_equal(clip.frames([3, 3, 1]).numpy(), expected[[3, 3, 1]])
    before = clip.digest()
    Image.fromarray(frame_of(5)).save(tmp_path / "frame9.png")
    assert load(tmp_path).digest() != before


def test_folder_faults_are_one_clear_line(tmp_path: Path):
    with pytest.raises(UserError, match="the folder holds no pictures"):
        load(tmp_path)
    (tmp_path / "1.png").write_bytes(png())
    (tmp_path / "2.png").write_bytes(png(RGB[:3]))
    with pytest.raises(UserError, match=r"2\.png: 7x3 does not fit the first frame's 7x5"):
        load(tmp_path).frames()
    with pytest.raises(UserError, match="limit frames=1"):
        load(tmp_path, limits=Limits(frames=1))
    clip = load(tmp_path)
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png: the file cannot be read"):
        clip.frames([0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "there is no such file"),
        ("empty.mp4", b"", r"empty\.mp4: the file is empty"),
        ("garbage.mp4", b"garbage " * 500, r"garbage\.mp4: this is neither"),
        ("header.mp4", b"\0\0\0\x20ftypisom" + b"\0" * 50, r"header\.mp4: "),
        ("half.png", png()[:20], r"half\.png: the picture is broken"),
        ("zeros.mkv", b"\x1a\x45\xdf\xa3" + b"\0" * 500, r"zeros\.mkv: "),
    ],
)
def test_broken_files_are_one_clear_line(tmp_path: Path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(path).frames()
    assert "\n" not in str(caught.value)
    if content is not None:
        assert str(tmp_path) not in str(caught.value)


def test_the_content_decides_not_the_name(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(png())
    assert load(tmp_path / "a.mp4").kind == "picture"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_unreadable_files_are_one_clear_line(tmp_path: Path, kind, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(png())
    if os.geteuid():
        (path if kind == "file" else tmp_path).chmod(0)
    else:  # nothing is forbidden to root

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open" if kind == "file" else "iterdir", refuse)
    with pytest.raises(UserError, match="cannot be read; check its permissions"):
        load(path if kind == "file" else tmp_path)
    tmp_path.chmod(0o700)


def test_devices_and_pipes_are_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="neither a file nor a folder"):
            load(path)


@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 5000])
def test_impossible_names_are_one_clear_line(name):
    with pytest.raises(UserError):
        load(name)


def test_the_limit_on_bytes_holds_at_and_above():
    assert load(png(), limits=Limits(bytes=len(png())))
    with pytest.raises(UserError, match="limit bytes"):
        load(png(), limits=Limits(bytes=len(png()) - 1))


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_must_be_above_zero_or_none(value):
    with pytest.raises(UserError, match="the limit frames must be above 0 or None"):
        Limits(frames=value)


def test_paths_below_the_roots_only(tmp_path: Path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.png").write_bytes(png())
    (inside / "link.png").symlink_to(outside / "a.png")
    (inside / "good.png").symlink_to(inside / "a.png")
    policy = Access(local_roots=(inside,))
    assert load(inside / "a.png", policy=policy)
    assert load(inside / "good.png", policy=policy)
    for path in (
        outside / "a.png",
        inside / "link.png",
        inside / ".." / "out" / "a.png",
        inside,  # one of its frames is the link
        outside / "missing.png",
        tmp_path / "in-other",
    ):
        with pytest.raises(UserError, match="outside the permitted folders"):
            load(path, policy=policy)


def test_local_files_can_be_off_altogether(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png())
    policy = Access(paths=False)
    with pytest.raises(UserError, match="local files are switched off"):
        load(tmp_path / "a.png", policy=policy)
    assert load(png(), policy=policy)
