from __future__ import annotations

import numpy as np
import pytest

from sparsight.core.errors import UserError
from sparsight.world.library import Library
from sparsight.world.scene import Background, Scene, Sound, always
from sparsight.world.sound import RATE, TONES, pieces, track


class Voices:
    """Stands for the library: the word of every digit is a hum of half a second at 8 kHz between
    two silences, the first variant soft and the second loud."""

    def count(self, kind: str, name: str, split: str) -> int:
        return 0 if name == "nine" else 2

    def spoken(self, name: str, variant: int) -> tuple[np.ndarray, int]:
        hum = np.sin(2 * np.pi * 300 * np.arange(4000) / 8000) * (0.01, 0.9)[variant]
        return np.concatenate([np.zeros(1500), hum, np.zeros(700)]).astype(np.float32), 8000


def scene(*sounds: Sound, frames: int = 8, fps: float = 2.0) -> Scene:
    still = always(Background("texture", 0))
    return Scene(0, "test", frames, fps, 1.0, (), still, sounds=sounds)


def pitch(samples: np.ndarray, rate: int = RATE) -> float:
    """Hertz of the strongest frequency."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(power.argmax()) * rate / len(samples)


def heard(samples: np.ndarray) -> tuple[float, float]:
    """Where the sound starts and ends, in seconds."""
    loud = np.flatnonzero(np.abs(samples) > 1e-4)
    return loud[0] / RATE, (loud[-1] + 1) / RATE


@pytest.mark.parametrize(("frames", "fps"), [(8, 2.0), (1, 2.0), (7, 3.0), (64, 29.97)])
def test_the_track_is_as_long_as_the_film(frames: int, fps: float):
    made = track(scene(frames=frames, fps=fps))
    assert made.dtype == np.float32
    assert len(made) == round(frames / fps * RATE)


def test_without_sounds_there_is_silence():
    assert not track(scene()).any()


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(("name", "hertz"), [("high tone", 880), ("low tone", 220)])
def test_a_steady_tone_has_its_pitch_at_every_rate(name: str, hertz: int, rate: int):
    made = track(scene(Sound("tone", name, 1.0, 3.0)), rate)
    assert pitch(made[rate : 3 * rate], rate) == pytest.approx(hertz, abs=1)


@pytest.mark.parametrize("name", ["rising tone", "falling tone"])
def test_a_glide_goes_from_one_pitch_to_the_other(name: str):
    made = track(scene(Sound("tone", name, 0.0, 4.0)))
    first, last = pitch(made[:1600]), pitch(made[-1600:])
    assert (first, last) == pytest.approx(TONES[name], rel=0.08)
    middle = pitch(made[2 * RATE - 800 : 2 * RATE + 800])
    assert middle == pytest.approx(440, rel=0.05)  # half the time, half the octaves


@pytest.mark.parametrize("name", TONES)
def test_a_tone_fills_exactly_its_time_and_does_not_click(name: str):
    made = track(scene(Sound("tone", name, 0.7, 1.9)))
    start, end = round(0.7 * RATE), round(1.9 * RATE)
    assert not made[:start].any()
    assert not made[end:].any()
    assert heard(made) == pytest.approx((0.7, 1.9), abs=0.002)
    steps = np.abs(np.diff(made[start - 1 : end + 1]))
    assert steps[:40].max() < steps.max() / 2
    assert steps[-40:].max() < steps.max()
    assert np.abs(made[end - 8 : end]).max() < 0.02


def test_sounds_that_overlap_add_up_and_stay_below_full_scale():
    one, other = Sound("tone", "high tone", 0, 2), Sound("digit", "four", 1, 3, variant=1)
    both = track(scene(one, other), library=Voices())
    apart = track(scene(one)) + track(scene(other), library=Voices())
    np.testing.assert_allclose(both, apart, atol=1e-7)
    assert np.abs(both).max() < 1
    crowd = track(scene(*[Sound("tone", "low tone", 0, 2)] * 9))
    assert np.abs(crowd).max() == 1


def test_sounds_end_where_the_film_ends():
    made = track(scene(Sound("tone", "high tone", 3.0, 9.0), Sound("tone", "low tone", 7, 8)))
    assert len(made) == 4 * RATE
    assert heard(made) == pytest.approx((3.0, 4.0), abs=0.002)


def test_a_spoken_digit_starts_at_its_time_without_the_silence_around_it():
    made = track(scene(Sound("digit", "seven", 1.0, 3.0)), library=Voices())
    assert heard(made) == pytest.approx((1.0, 1.5), abs=0.005)
    assert pitch(made[RATE : RATE + 8000]) == pytest.approx(300, abs=3)  # not that of 8 kHz


def test_soft_and_loud_recordings_are_heard_alike():
    soft, loud = (
        track(scene(Sound("digit", "two", 1, 3, variant=v)), library=Voices()) for v in (0, 1)
    )
    np.testing.assert_allclose(soft, loud, atol=1e-3)
    assert np.abs(loud).max() > 0.1


def test_a_recording_longer_than_its_time_is_played_faster_to_its_end():
    made = track(scene(Sound("digit", "seven", 1.0, 1.25)), library=Voices())
    assert heard(made) == pytest.approx((1.0, 1.25), abs=0.005)
    assert pitch(made[RATE : RATE + 4000]) == pytest.approx(600, abs=6)


def test_a_track_in_pieces_is_the_track():
    sounds = [
        Sound("tone", "rising tone", 0.31, 17.7),
        Sound("digit", "three", 9.8, 10.6, variant=1),
        Sound("tone", "high tone", 19.9, 20.1),
    ]
    film = scene(*sounds, frames=100, fps=4.3)
    whole = track(film, library=Voices())
    for seconds in (10.0, 0.37, 100.0):
        parts = list(pieces(film, library=Voices(), seconds=seconds))
        assert len(parts) == int(np.ceil(film.duration / seconds))
        assert np.array_equal(np.concatenate(parts), whole)
    part = track(film, library=Voices(), start=9.9, end=10.2)
    assert np.array_equal(part, whole[round(9.9 * RATE) : round(10.2 * RATE)])


def test_a_piece_of_a_long_film_costs_no_more_than_its_own_length():
    film = scene(Sound("tone", "rising tone", 0.0, 1e5), frames=10_000, fps=0.1)
    piece = next(pieces(film, seconds=2.0))
    assert len(piece) == 2 * RATE
    late = track(film, start=99_998.0, end=99_999.0)
    assert pitch(late) == pytest.approx(880, abs=2)


@pytest.mark.parametrize(
    ("library", "name"),
    [(None, "three"), (Library(), "three"), (Voices(), "nine")],
    ids=["no library", "library without a folder", "digit that is missing"],
)
def test_a_digit_without_recordings_says_which_folder_is_needed(library, name: str):
    with pytest.raises(UserError, match=f"no recording of '{name}': give a folder .*_anna_0.wav"):
        track(scene(Sound("digit", name, 0, 1)), library=library)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: track(s, 1000), "rate 1000 is out of range"),
        (lambda s: track(s, start=-1), "the scene lasts 4"),
        (lambda s: track(s, start=2, end=1), "from 2 to 1 seconds"),
        (lambda s: track(s, end=4.1), "from 0 to 4.1 seconds"),
        (lambda s: next(pieces(s, seconds=0)), "pieces of 0 seconds"),
        (lambda s: track(scene(Sound("tone", "hih tone", 0, 1))), "did you mean 'high tone'"),
        (lambda s: track(scene(Sound("digit", "ten", 0, 1))), "unknown spoken digit 'ten'"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(call, words: str):
    with pytest.raises(UserError, match=words) as error:
        call(scene())
    assert "\n" not in str(error.value)
