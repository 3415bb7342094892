from __future__ import annotations

import io
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparsight.core.errors import UserError
from sparsight.media import Limits, load

RED = np.zeros((6, 10, 3), dtype=np.uint8)
RED[:, :5] = (200, 10, 30)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(data: bytes) -> np.ndarray:
    return load(data).frames([0])[0].numpy()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_out_as_they_went_in(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    clip = load(encoded(Image.fromarray(RED), kind, **options))
    assert (clip.kind, clip.size, len(clip)) == ("picture", (6, 10), 1)
    assert np.array_equal(clip.frames()[0].numpy(), RED)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "GIF"])
def test_lossy_formats_come_out_nearly_as_they_went_in(kind):
    big = RED.repeat(8, 0).repeat(8, 1)
    clip = load(encoded(Image.fromarray(big), kind))
    assert clip.kind == "picture"
    assert np.abs(clip.frames()[0].numpy().astype(int) - big).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = np.zeros((16, 32, 3), dtype=np.uint8)
    picture[:8, :8] = 255  # a white mark in the corner
    options = {"lossless": True} if kind == "WEBP" else {}
    clip = load(encoded(Image.fromarray(picture), kind, exif=exif, **options))
    corner = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    assert clip.size == ((16, 32) if orientation < 5 else (32, 16))
    frame = clip.frames()[0].numpy()
    row, column = (-2 if "b" in corner else 1), (-2 if "r" in corner else 1)
    assert frame[row, column].min() > 240
    assert (frame > 128).all(-1).mean() == pytest.approx(0.125, abs=0.02)


def test_transparency_is_composited_on_white():
    rgba = np.dstack([RED, np.array([[0, 128, 255, 0, 128, 255, 0, 128, 255, 0]] * 6, np.uint8)])
    frame = shown(encoded(Image.fromarray(rgba), "PNG"))
    assert frame[0, 0].tolist() == [255, 255, 255]
    assert frame[0, 1].tolist() == pytest.approx([227, 132, 142], abs=1)
    assert frame[0, 2].tolist() == [200, 10, 30]


def test_grey_with_transparency_is_composited_on_white():
    frame = shown(encoded(Image.new("LA", (2, 2), (100, 0)), "PNG"))
    assert (frame == 255).all()


def test_a_transparent_palette_entry_turns_white():
    image = Image.fromarray(RED).quantize(4)
    background = image.getpixel((9, 0))
    frame = shown(encoded(image, "PNG", transparency=background))
    assert frame[0, 9].tolist() == [255, 255, 255]
    assert frame[0, 0].tolist() == [200, 10, 30]


def test_a_colour_declared_transparent_turns_white():
    frame = shown(encoded(Image.fromarray(RED), "PNG", transparency=(0, 0, 0)))
    assert frame[0, 9].tolist() == [255, 255, 255]


def test_one_bit_and_grey_pictures_become_rgb():
    assert shown(encoded(Image.new("1", (3, 2), 1), "PNG")).tolist() == [[[255] * 3] * 3] * 2
    assert shown(encoded(Image.new("L", (3, 2), 77), "PNG")).tolist() == [[[77] * 3] * 3] * 2


def test_cmyk_becomes_rgb():
    frame = shown(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert frame[0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)


def test_sixteen_bits_of_grey_keep_their_upper_byte():
    grey = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    frame = shown(encoded(Image.fromarray(grey), "PNG"))
    assert frame[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (frame[..., 0] == frame[..., 2]).all()


def test_floating_point_pictures_are_refused():
    with pytest.raises(UserError, match="floating-point"):
        shown(encoded(Image.new("F", (2, 2), 0.5), "TIFF"))


def test_a_picture_of_one_pixel_is_fine():
    clip = load(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"))
    assert clip.frames().tolist() == [[[[1, 2, 3]]]]


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("size", [(30000, 30000), (13500, 13500), (2**31 - 1, 1)])
def test_a_huge_picture_is_refused_at_once(size):
    began = time.perf_counter()
    with pytest.raises(UserError, match="limit pixels"):
        load(png_header(*size))
    assert time.perf_counter() - began < 1


def test_the_limit_on_pixels_holds_at_and_above_and_can_be_lifted():
    data = encoded(Image.fromarray(RED), "PNG")
    assert load(data, limits=Limits(pixels=60)).size == (6, 10)
    with pytest.raises(UserError, match=r"picture of 10x6 is above the limit pixels=59"):
        load(data, limits=Limits(pixels=59))
    assert load(data, limits=Limits(pixels=None)).size == (6, 10)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "PCX", "ICO", "TGA"])
def test_formats_off_the_list_are_refused(kind):
    with pytest.raises(UserError, match=r"neither a picture nor a film|unknown kind"):
        load(encoded(Image.fromarray(RED), kind))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.03, 0.3, 0.6])
def test_a_picture_cut_off_is_one_clear_line(kind, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UserError) as caught:
        load(data[: max(5, int(len(data) * share))]).frames()
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about mutated tags
def test_mutated_pictures_never_raise_anything_else():
    random = np.random.default_rng(1)
    noise = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        original = np.frombuffer(encoded(Image.fromarray(noise), kind), dtype=np.uint8)
        for _ in range(60):
            mutated = original.copy()
            places = random.integers(0, len(mutated), 6)
            mutated[places] = random.integers(0, 255, 6)
            with suppress(UserError):
                clip = load(mutated.tobytes())
                frames = clip.frames()
                assert (frames.dtype, tuple(frames.shape[1:])) == (torch.uint8, (*clip.size, 3))


def test_a_gif_of_one_frame_is_a_picture():
    clip = load(encoded(Image.fromarray(RED), "GIF"))
    assert (clip.kind, len(clip), clip.duration) == ("picture", 1, 0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_is_a_film_with_its_own_times(kind):
    frames = [Image.new("RGB", (32, 16), (value, value, value)) for value in (0, 90, 200)]
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], duration=[100, 300, 200]
    )
    clip = load(data)
    assert (clip.kind, clip.size) == ("film", (16, 32))
    assert clip.timestamps.tolist() == pytest.approx([0, 0.1, 0.4])
    assert clip.duration == pytest.approx(0.6)
    assert clip.frames()[:, 8, 16, 0].tolist() == pytest.approx([0, 90, 200], abs=4)


def test_transparent_parts_of_an_animation_are_white():
    frames = [Image.new("RGBA", (8, 8), (255, 0, 0, 0)) for _ in range(2)]
    for i, frame in enumerate(frames):
        frame.putpixel((i, 0), (0, 0, 255, 255))
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)
    pixels = load(data).frames().numpy()
    assert pixels[1, 4, 4].tolist() == [255, 255, 255]
    assert pixels[1, 0, 1].tolist() == [0, 0, 255]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_of_too_many_frames_is_refused(kind):
    frames = [Image.new("L", (8, 8), i * 20) for i in range(10)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(UserError, match="above the limit frames=9"):
        load(data, limits=Limits(frames=9))
    with pytest.raises(UserError, match="above the limit duration"):
        load(data, limits=Limits(duration=0.5))


def test_a_gif_of_a_hundred_thousand_frames_is_refused_within_a_second():
    # the screen, then two-byte pixels over and over: 1x1, 2 codes
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\0\x02\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    data = screen + (frame + b"\x02\x02\x44\x01\0") * 100_000 + b"\x3b"
    began = time.perf_counter()
    with pytest.raises(UserError, match="above the limit frames"):
        load(data)
    assert time.perf_counter() - began < 3  # one second on a machine of one's own


def test_real_pictures_of_every_mode_load(shared_data: Path):
    expected = load(shared_data / "image/modes/torchcodec_gradient.jpg").frames()[0].numpy()
    for path in sorted((shared_data / "image/modes").iterdir()):
        clip = load(path)
        assert clip.kind == ("film" if path.name == "torchcodec_animated.gif" else "picture")
        frame = clip.frames([0])[0].numpy()
        assert frame.shape == (*clip.size, 3)
        if path.stem in ("torchcodec_cmyk", "torchcodec_gradient"):
            assert np.abs(frame.astype(int) - expected).mean() < 8, path.name


def test_broken_real_pictures_are_one_clear_line(shared_data: Path):
    for name in ("corrupt.jpg", "sigsegv.png", "heapbof.png"):
        with pytest.raises(UserError, match=name):
            load(shared_data / "odd" / name).frames()
    for name in ("bad_huffman.jpg", "frame_exceeds_screen.gif"):
        assert load(shared_data / "odd" / name).frames().shape[0] == 1
