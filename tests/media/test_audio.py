from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.media import Limits, load


def test_sound_comes_as_mono_16_khz_of_the_right_length_and_pitch(film):
    audio = load(film("a.mp4", frames=20, rate=10, tone=440.0)).audio()
    assert (audio.rate, audio.samples.dtype, audio.samples.ndim) == (16000, torch.float32, 1)
    assert audio.duration == pytest.approx(2, abs=0.06)  # AAC fills its last frame up
    samples = audio.samples.numpy()[4000:28000]  # without the codec's edges
    # the tone that was written, 0.5 sin, fitted for its phase
    angle = 2 * np.pi * 440 * np.arange(len(samples)) / 16000
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, samples, rcond=None)
    assert np.hypot(*weights) == pytest.approx(0.5, rel=0.02)
    assert np.abs(samples - basis @ weights).max() < 0.02


def test_a_silent_film_has_no_sound(film):
    assert load(film("a.mp4")).audio() is None


def test_sound_above_a_limit_is_refused(film):
    clip = load(film("a.mp4", frames=20, tone=440.0), limits=Limits(decoded_bytes=100_000))
    with pytest.raises(UserError, match="its sound is above the limit decoded_bytes"):
        clip.audio()


def test_real_sound_tracks_have_the_films_length(shared_data: Path):
    for name in ("llavamini_safari.mp4", "grid_lipreading/bbaf2n.mpg", "mmaction2_test.avi"):
        clip = load(shared_data / "video" / name)
        assert clip.audio().duration == pytest.approx(clip.duration, abs=0.2)
