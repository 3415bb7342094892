"""What the world does not draw itself: handwritten digits, photographs, spoken digits.

Nothing of it is part of the package. Digits come with scikit-learn; pictures and voices from a
folder that the user names:

- pictures (PNG, JPEG, BMP, WebP) whose class is the name of the folder that holds them, as files
  or within zip files;
- recordings `{digit}_{speaker}_{index}.wav`, as files or within zip files;
- `fashion-mnist-sprite.png`, the sheet of 30 x 30 garments that its authors publish.
"""

from __future__ import annotations

import io
import os
import re
import wave
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from sparsight.core.errors import UserError, unknown

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Of ten variants in a row, those that a split may use.
SHARES: dict[str, tuple[int, ...]] = {
    "train": (0, 1, 2, 3, 4, 5, 6),
    "val": (7,),
    "test": (8,),
    "combos": (9,),
}

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_LARGEST = 128  # pixels of a photograph's shorter side that are kept
_SPOKEN = re.compile(r"(\d)_(\w+)_(\d+)\.wav$")
_SHEET = "fashion-mnist-sprite.png"
_TILE = 28
# Three rows of the sheet each, in this order; T-shirts and shirts are told apart by no one.
_GARMENTS = (
    *("shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)


@dataclass(frozen=True, order=True)
class _Source:
    """A file, a member of a zip file, or a tile (row, column) of a sheet."""

    path: Path
    member: str = ""
    tile: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def read(self) -> bytes:
        try:
            if self.member:
                return _archive(self.path, os.getpid()).read(self.member)
            return self.path.read_bytes()
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"cannot read {self}: {error}") from error


class Library:
    """Digits, and the photographs and voices of a folder.

    Each has variants, numbered from 0; the splits of the world use disjoint ones (`SHARES`).
    Libraries of the same folder are equal.

    UserError: a folder that does not exist, holds nothing of use or holds a broken zip file, or
    a class with too few pictures to go round.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder).resolve()
        photos: dict[str, list[_Source]] = {}
        spoken: dict[str, list[tuple[int, str, _Source]]] = {}
        for name, source in _found(self.folder) if self.folder else ():
            if voice := _SPOKEN.search(name):
                takes = spoken.setdefault(WORDS[int(voice[1])], [])
                takes.append((int(voice[3]), voice[2], source))
            else:
                photos.setdefault(_class_name(name), []).append(source)
        if self.folder and not photos and not spoken:
            raise UserError(
                f"{self.folder} holds nothing of use: put pictures into one folder a class, "
                "or digits spoken as {digit}_{speaker}_{index}.wav"
            )
        self._photos = {name: sorted(photos[name]) for name in sorted(photos)}
        self._spoken = {name: [take for *_, take in sorted(spoken[name])] for name in spoken}
        for kind, table in (("pictures", self._photos), ("recordings", self._spoken)):
            for name, sources in table.items():
                if len(sources) < 10:
                    raise UserError(
                        f"{self.folder} has {len(sources)} {kind} of {name!r}: give at least 10, "
                        "so that the splits share none, or remove them"
                    )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Library) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of photographs: "horse", "truck"."""
        return tuple(self._photos)

    def count(self, kind: str, name: str, split: str) -> int:
        """How many variants of a "digit" (name "0" to "9"), "photo" (a class) or "spoken" digit
        ("zero" to "nine") a split may use; 0 where there are none."""
        if split not in SHARES:
            raise unknown("split", split, SHARES)
        tens, rest = divmod(len(self._variants(kind, name)), 10)
        share = SHARES[split]
        return tens * len(share) + sum(place < rest for place in share)

    def variant(self, kind: str, name: str, split: str, rng: np.random.Generator) -> int:
        """One of these variants by chance. UserError where there are none."""
        number = self.count(kind, name, split)
        if not number:
            raise UserError(f"the library has no {kind} {name!r} for the split {split!r}")
        return _nth(split, int(rng.integers(number)))

    def digit(self, name: str, variant: int) -> np.ndarray:
        """A handwritten digit, (8, 8) float32: how much of each texel is ink, 0 to 1."""
        return self._of("digit", name, variant)

    def photo(self, name: str, variant: int) -> np.ndarray:
        """A photograph of a class, (h, w, 3) uint8, its shorter side at most 128 pixels."""
        return _photo(self._of("photo", name, variant))

    def scenery(self, number: int, split: str) -> np.ndarray:
        """Any photograph that a split may use, as `photo`; numbers beyond the last start anew.
        UserError where there are none."""
        counts = [self.count("photo", name, split) for name in self.classes]
        if not sum(counts):
            raise UserError("photographs as backgrounds need a folder of pictures")
        number %= sum(counts)
        ends = np.cumsum(counts)
        place = int(np.searchsorted(ends, number, side="right"))
        return self.photo(
            self.classes[place], _nth(split, number - int(ends[place]) + counts[place])
        )

    def spoken(self, name: str, variant: int) -> tuple[np.ndarray, int]:
        """A spoken digit, (samples,) float32 in -1 to 1, and its samples a second."""
        return _recording(self._of("spoken", name, variant))

    def _variants(self, kind: str, name: str) -> list:
        if kind == "digit":
            return self._digits[int(name)] if name.isdecimal() and int(name) < 10 else []
        if kind not in ("photo", "spoken"):
            raise unknown("kind of variant", kind, ("digit", "photo", "spoken"))
        return (self._photos if kind == "photo" else self._spoken).get(name, [])

    def _of(self, kind: str, name: str, variant: int):  # type: ignore[no-untyped-def]
        variants = self._variants(kind, name)
        if not 0 <= variant < len(variants):
            raise UserError(
                f"the library has {len(variants)} variants of the {kind} {name!r}, so there is no "
                f"{variant}: was the scene made with another folder?"
            )
        return variants[variant]

    @cached_property
    def _digits(self) -> list[list[np.ndarray]]:
        return _handwritten()


def _nth(split: str, number: int) -> int:
    """The variant with the number `number` among those of a split."""
    tens, place = divmod(number, len(SHARES[split]))
    return tens * 10 + SHARES[split][place]


@lru_cache(maxsize=1)
def _handwritten() -> list[list[np.ndarray]]:
    """scikit-learn's digits, by digit."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("handwritten digits need scikit-learn: install sparsight[world]") from error
    data = load_digits()
    images = (data.images / 16).astype(np.float32)
    return [list(images[data.target == digit]) for digit in range(10)]


# The folder


def _found(folder: Path) -> Iterator[tuple[str, _Source]]:
    """Everything of use in a folder: (path, or class and name, where it is)."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds pictures or recordings")
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            continue
        if path.name == _SHEET:
            for row in range(30):
                for column in range(30):
                    yield f"{_GARMENTS[row // 3]}/", _Source(path, tile=(row, column))
        elif suffix == ".zip":
            for member in _members(path):
                if Path(member).suffix.lower() in _PICTURES or _SPOKEN.search(member):
                    # What lies at the top of a zip file is of the class that the file is named for.
                    name = member if "/" in member else f"{path.stem}/{member}"
                    yield name, _Source(path, member)
        elif suffix in _PICTURES or _SPOKEN.search(path.name):
            yield str(path), _Source(path)


def _members(path: Path) -> list[str]:
    try:
        names = _archive(path, os.getpid()).namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return sorted(name for name in names if not Path(name).name.startswith("."))


def _class_name(path: str) -> str:
    """The folder that holds a file, as a noun: "garden_gnome/3.png" is a "garden gnome"."""
    return path.rsplit("/", 2)[-2].replace("_", " ").lower()


@lru_cache(maxsize=16)
def _archive(path: Path, process: int) -> zipfile.ZipFile:
    """An open zip file. Each process opens its own: they would move each other's place in it."""
    return zipfile.ZipFile(path)


# Files


@lru_cache(maxsize=4096)
def _photo(source: _Source) -> np.ndarray:
    if source.tile is not None:
        row, column = (place * _TILE for place in source.tile)
        return _sheet(source)[row : row + _TILE, column : column + _TILE]
    return _decoded(source, _LARGEST)


@lru_cache(maxsize=2)
def _sheet(source: _Source) -> np.ndarray:
    sheet = _decoded(_Source(source.path), None)
    if sheet.shape[:2] != (30 * _TILE, 30 * _TILE):
        raise UserError(f"{source} is {sheet.shape[1]} x {sheet.shape[0]} pixels, not 840 x 840")
    return sheet


def _decoded(source: _Source, largest: int | None) -> np.ndarray:
    try:
        picture = Image.open(io.BytesIO(source.read())).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read the picture {source}: {error}") from error
    if largest is not None and (small := largest / min(picture.size)) < 1:
        width, height = (max(round(length * small), 1) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)


@lru_cache(maxsize=512)
def _recording(source: _Source) -> tuple[np.ndarray, int]:
    data = source.read()
    try:
        with wave.open(io.BytesIO(data)) as sound:
            if sound.getsampwidth() != 2:
                raise wave.Error(f"{8 * sound.getsampwidth()} bits a sample, not 16")
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
            samples = samples.reshape(-1, sound.getnchannels()).mean(1)
            return (samples / 32768).astype(np.float32), sound.getframerate()
    except (wave.Error, EOFError, ValueError) as error:
        raise UserError(f"cannot read the recording {source}: {error}") from error
