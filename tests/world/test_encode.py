"""Files that grow: what they hold, the same bytes each time, nothing half done."""

from __future__ import annotations

import ctypes
import os
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparsight
from sparsight.world.encode import RATE, film, mask_film, sound_file, sweep, whole
from sparsight.world.scene import COLORS

_M_PERTURB = -6  # glibc: what fresh memory is filled with


@pytest.fixture
def fresh_memory() -> Iterator[ctypes.CDLL]:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("fresh memory can be filled under glibc alone")
    yield libc
    libc.mallopt(_M_PERTURB, 0)


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """(frames, height, width, 3): a soft picture that slides, under grain."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).resize((2 * width, height))
    wide = np.asarray(soft).astype(int)
    shown = [wide[:, 2 * k : 2 * k + width] for k in range(frames)]
    grain = rng.normal(0, 5, (frames, height, width, 3))
    return (np.stack(shown) + grain).clip(0, 255).astype(np.uint8)


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(int(seconds * RATE)) / 8)).astype(np.float32)


def test_the_bytes_of_films_do_not_depend_on_what_memory_held(
    fresh_memory: ctypes.CDLL, tmp_path: Path
) -> None:
    frames, seen = moving(12, 112, 112), set()
    for filling in (1, 85, 170, 200):
        fresh_memory.mallopt(_M_PERTURB, filling)
        with film(tmp_path / "a.mp4", (112, 112), 4.0, sound=True) as add:
            add(frames, tone(3))
        with mask_film(tmp_path / "a.mkv", (112, 112), 4.0) as add_masks:
            add_masks(frames[..., 0])
        seen.add(((tmp_path / "a.mp4").read_bytes(), (tmp_path / "a.mkv").read_bytes()))
    assert len(seen) == 1


def test_a_film_in_pieces_is_the_film_in_one_go(tmp_path: Path) -> None:
    frames, samples = moving(12, 64, 96), tone(3)
    for name, piece in (("a.mp4", 12), ("b.mp4", 5)):
        with film(tmp_path / name, (64, 96), 4.0, sound=True) as add:
            for k in range(0, 12, piece):
                add(frames[k : k + piece], samples[k * RATE // 4 : (k + piece) * RATE // 4])
    shown = [sparsight.load_media(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    assert (shown[0].frames() == shown[1].frames()).all()
    heard = [clip.source.audio() for clip in shown]
    assert heard[0] is not None
    assert heard[1] is not None
    assert (heard[0].samples == heard[1].samples).all()


def test_colors_come_back(tmp_path: Path) -> None:
    """The color matrix and range that the film names are those it was made with."""
    stripes = np.zeros((2, 64, 128, 3), np.uint8)
    for place, color in enumerate(COLORS.values()):
        stripes[:, :, 16 * place : 16 * place + 16] = color
    with film(tmp_path / "a.mp4", (64, 128), 2.0) as add:
        add(stripes)
    shown = sparsight.load_media(tmp_path / "a.mp4").frames().numpy().astype(int)
    middles = slice(8, None, 16)
    assert np.abs(shown - stripes)[:, :, middles].max() <= 4


@pytest.mark.parametrize("fps", [0.3, 1.0, 7.5, 29.97, 120.0])
def test_frames_are_shown_at_their_times(fps: float, tmp_path: Path) -> None:
    with film(tmp_path / "a.mp4", (64, 64), fps) as add:
        add(moving(5, 64, 64))
    times = sparsight.load_media(tmp_path / "a.mp4").timestamps
    assert times.tolist() == pytest.approx([k / fps for k in range(5)], abs=2e-4 / fps)


def test_a_wave_holds_its_samples(tmp_path: Path) -> None:
    with sound_file(tmp_path / "a.wav") as add:
        add(tone(0.5))
        add(np.array([2.0, -2.0], np.float32))  # too loud: cut off, not wrapped around
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        held = np.frombuffer(file.readframes(RATE), "<i2")
    assert held[-2:].tolist() == [32767, -32767]
    assert np.abs(held[:-2] / 32767 - tone(0.5)).max() < 1e-4


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with whole(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    with whole(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_old_parts_are_swept_and_those_of_a_run_at_work_are_not(tmp_path: Path) -> None:
    for name in (".a.png.1.part", ".b.png.2.part", "c.part"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".a.png.1.part", (1000, 1000))
    sweep(tmp_path, before=2000)
    assert {path.name for path in tmp_path.iterdir()} == {".b.png.2.part", "c.part"}
