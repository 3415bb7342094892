"""The sound track of a scene: tones and spoken digits, mono, exactly as long as its film.

A sample depends on the scene and its place alone: a track made piece by piece is the same as the
track made in one go.

Shape suffixes: S samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sparsight.core.errors import UserError, unknown
from sparsight.world.library import Library
from sparsight.world.scene import Scene, Sound

RATE = 16000
#: Frequency in hertz at the start and at the end of each tone.
TONES: dict[str, tuple[float, float]] = {
    "high tone": (880.0, 880.0),
    "low tone": (220.0, 220.0),
    "rising tone": (220.0, 880.0),
    "falling tone": (880.0, 220.0),
}
SPOKEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Recordings differ a hundredfold in level; all are brought to the loudness of the tones, with
# peaks low enough that a tone and a digit together stay below 1.
_LOUDNESS = 0.12  # root mean square
_PEAK = 0.8
_RAMP = 0.01  # seconds in which a sound swells and fades, so that it does not click
_QUIET = 0.03  # of the peak: what is softer before and after a spoken word is cut off
_RATES = (4000, 192_000)  # 880 Hz needs the lower one


def track(
    scene: Scene,
    rate: int = RATE,
    library: Library | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> np.ndarray:
    """The sound from `start` to `end` seconds, by default all of it: (S,) float32 in -1..1.

    S is round(rate * end) - round(rate * start), so that neighboring pieces join without a gap.
    `library` holds the spoken digits. Sounds that overlap are added. A recording that is longer
    than the time it has is played faster, so that all of it is heard.

    Raises `UserError` for a rate or time out of range, and when a digit is spoken for which the
    library has no recording.
    """
    end = scene.duration if end is None else end
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(f"rate {rate} is out of range: from {_RATES[0]:,} to {_RATES[1]:,}")
    if not 0 <= start <= end <= scene.duration:
        raise UserError(
            f"no sound from {start:g} to {end:g} seconds: the scene lasts {scene.duration:g}"
        )
    return _mix(scene, rate, library, round(start * rate), round(end * rate))


def pieces(
    scene: Scene, rate: int = RATE, library: Library | None = None, *, seconds: float = 10.0
) -> Iterator[np.ndarray]:
    """The track in pieces of `seconds`, (S,) float32 each, the last one shorter: constant memory
    however long the film. Raises `UserError` as `track` does."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"pieces of {seconds:g} seconds: must be above 0")
    starts = np.arange(0.0, scene.duration, seconds).tolist()
    for start, end in zip(starts, [*starts[1:], scene.duration], strict=True):
        yield track(scene, rate, library, start=start, end=end)


def _mix(scene: Scene, rate: int, library: Library | None, first: int, last: int) -> np.ndarray:
    """Samples `first` to `last` of the whole track."""
    out = np.zeros(last - first, np.float32)
    for sound in scene.sounds:
        begins, ends = round(sound.start * rate), round(sound.end * rate)
        low, high = max(first, begins), min(last, ends)
        if low < high:
            place, count = np.arange(low - begins, high - begins), ends - begins
            if sound.kind == "tone":
                heard = _tone(sound.name, place, count, rate)
            else:
                heard = _word(_recording(sound, scene.split, library), place, count, rate)
            out[low - first : high - first] += heard
    return np.clip(out, -1, 1, out=out)


def _tone(name: str, place: np.ndarray, count: int, rate: int) -> np.ndarray:
    """The samples at `place` (S,) of a tone of `count` samples. A glide takes as long for each
    octave, as the ear hears it."""
    if name not in TONES:
        raise unknown("tone", name, TONES)
    low, high = TONES[name]
    turns = place * (low / rate)
    if low != high:
        octaves = math.log(high / low)
        turns = np.expm1(place / count * octaves) * (low * count / rate / octaves)
    wave = np.sin(2 * math.pi * turns) * (_LOUDNESS * math.sqrt(2))
    return (wave * _swell(place, count, rate)).astype(np.float32)


def _swell(place: np.ndarray, count: int, rate: int) -> np.ndarray:
    """0..1: rises from the first of `count` samples and falls to the last."""
    near = np.minimum(place + 1, count - place) / max(1.0, _RAMP * rate)
    near = np.minimum(near, 1.0)
    return near * near * (3 - 2 * near)


def _recording(sound: Sound, split: str, library: Library | None) -> tuple[np.ndarray, int]:
    """Samples (S,) and their rate."""
    if sound.name not in SPOKEN:
        raise unknown("spoken digit", sound.name, SPOKEN)
    if library is None or not library.count("spoken", sound.name, split):
        raise UserError(
            f"there is no recording of {sound.name!r}: give a folder of sprites with spoken "
            f"digits, named like {SPOKEN.index(sound.name)}_anna_0.wav"
        )
    return library.spoken(sound.name, sound.variant)


def _word(
    recording: tuple[np.ndarray, int], place: np.ndarray, count: int, rate: int
) -> np.ndarray:
    """The samples at `place` (S,) of a recording that has `count` samples of time."""
    samples, own_rate = recording
    word = _trimmed(samples.astype(np.float64))
    word = _stretched(word, min(count, max(1, round(len(word) * rate / own_rate))))
    word *= _swell(np.arange(len(word)), len(word), rate)
    loudness, peak = math.sqrt(np.square(word).mean()), float(np.abs(word).max())
    if peak > 0:
        word *= min(_LOUDNESS / loudness, _PEAK / peak)
    out = np.zeros(len(place), np.float32)
    heard = place < len(word)
    out[heard] = word[place[heard]]
    return out


def _trimmed(word: np.ndarray) -> np.ndarray:
    """Without the silence before and after; at least one sample."""
    loud = np.flatnonzero(np.abs(word) > _QUIET * np.abs(word).max(initial=0.0))
    return word[loud[0] : loud[-1] + 1] if len(loud) else np.zeros(1)


def _stretched(word: np.ndarray, count: int) -> np.ndarray:
    """The same curve in `count` samples, without what they cannot carry (no aliasing)."""
    return np.fft.irfft(np.fft.rfft(word), count) * (count / len(word))
