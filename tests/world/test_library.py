from __future__ import annotations

import io
import pickle
import sys
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsight.core.errors import UserError
from sparsight.world import library as module
from sparsight.world.library import SHARES, WORDS, Library


def picture(color: tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", size, color).save(held, "PNG")
    return held.getvalue()


def recording(value: int, rate: int = 8000) -> bytes:
    held = io.BytesIO()
    with wave.open(held, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(np.full(20, value, "<i2").tobytes())
    return held.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve gnomes as files, twenty boats and ten spoken sevens in zip files."""
    gnomes = tmp_path / "Garden_Gnome"
    gnomes.mkdir()
    for index in range(12):
        (gnomes / f"{index:02d}.png").write_bytes(picture((index, 0, 0)))
    (gnomes / "notes.txt").write_text("not a picture")
    (gnomes / ".00.png").write_text("hidden, and not a picture either")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for index in range(20):
            archive.writestr(f"train/boat/{index:02d}.png", picture((0, index, 0)))
        archive.writestr("__MACOSX/train/boat/._00.png", b"left by an archiver")
    with zipfile.ZipFile(tmp_path / "voices.zip", "w") as archive:
        for index in range(10):
            archive.writestr(f"7_ann_{index}.wav", recording(index * 1000))
    return tmp_path


def test_the_class_is_the_name_of_the_folder_that_holds_the_picture(folder: Path) -> None:
    library = Library(folder)
    assert library.classes == ("boat", "garden gnome")
    assert library.photo("garden gnome", 7).shape == (4, 6, 3)
    assert library.photo("garden gnome", 7)[0, 0].tolist() == [7, 0, 0]
    assert library.photo("boat", 19)[0, 0].tolist() == [0, 19, 0]


def test_every_variant_belongs_to_one_split(folder: Path) -> None:
    library = Library(folder)
    rng = np.random.default_rng(0)
    for kind, name, total in (("photo", "garden gnome", 12), ("digit", "3", 183)):
        found = {
            split: {library.variant(kind, name, split, rng) for _ in range(1500)}
            for split in SHARES
        }
        assert {split: len(seen) for split, seen in found.items()} == {
            split: library.count(kind, name, split) for split in SHARES
        }
        together = sorted(variant for seen in found.values() for variant in seen)
        assert together == list(range(total))


def test_most_variants_are_for_training(folder: Path) -> None:
    counts = [Library(folder).count("photo", "boat", split) for split in SHARES]
    assert counts == [14, 2, 2, 2]


def test_digits_are_ink_on_nothing() -> None:
    library = Library()
    assert library.classes == ()
    ink = library.digit("0", 0)
    assert (ink.shape, ink.dtype) == ((8, 8), np.float32)
    assert ink.min() == 0
    assert 0.8 < ink.max() <= 1
    assert ink[4, 3] < 0.2 < ink[4, 1]  # the hole of a zero


def test_a_spoken_digit_has_its_samples_and_rate(folder: Path) -> None:
    library = Library(folder)
    samples, rate = library.spoken("seven", 3)
    assert rate == 8000
    assert samples.dtype == np.float32
    assert samples.tolist() == pytest.approx([3000 / 32768] * 20)
    assert library.count("spoken", "eight", "train") == 0


def test_takes_of_a_spoken_digit_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for index in range(12):
        (tmp_path / f"0_bob_{index}.wav").write_bytes(recording(index * 1000))
    samples, _ = Library(tmp_path).spoken("zero", 10)
    assert samples[0] == pytest.approx(10000 / 32768)


def test_scenery_is_a_photograph_of_the_split_whatever_the_number(folder: Path) -> None:
    library = Library(folder)
    seen = {tuple(library.scenery(number, "test")[0, 0].tolist()) for number in range(40)}
    assert seen == {(0, 8, 0), (0, 18, 0), (8, 0, 0)}
    with pytest.raises(UserError, match="folder of pictures"):
        Library().scenery(0, "test")


def test_large_photographs_are_kept_small(tmp_path: Path) -> None:
    for index in range(10):
        path = tmp_path / "hall" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture((9, 9, 9), (512, 256)))
    assert Library(tmp_path).photo("hall", 0).shape == (128, 256, 3)


def test_libraries_of_one_folder_are_equal_and_can_be_sent_to_another_process(
    folder: Path,
) -> None:
    library = Library(folder)
    library.photo("boat", 0)  # its zip file is open now
    other = pickle.loads(pickle.dumps(library))
    assert other == library == Library(str(folder))  # type: ignore[arg-type]
    assert hash(other) == hash(library)
    assert other != Library()
    assert (other.photo("boat", 5) == library.photo("boat", 5)).all()


def test_an_unknown_split_or_kind_is_named() -> None:
    with pytest.raises(UserError, match="unknown split 'tset'; did you mean 'test'"):
        Library().count("digit", "1", "tset")
    with pytest.raises(UserError, match="unknown kind of variant 'fotos'"):
        Library().count("fotos", "1", "test")


def test_asking_for_what_is_not_there_is_a_mistake_with_a_name(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="no photo 'cow'"):
        Library(folder).variant("photo", "cow", "train", rng)
    with pytest.raises(
        UserError, match="12 variants of the photo 'garden gnome', so there is no 12"
    ):
        Library(folder).photo("garden gnome", 12)
    with pytest.raises(UserError, match="0 variants of the photo 'boat'"):
        Library().photo("boat", 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.joinpath("gone"), "is not a folder"),
        (lambda path: path, "holds nothing of use"),
        (lambda path: _with(path, "a/0.png", picture((0, 0, 0))), "has 1 pictures of 'a'"),
        (lambda path: _with(path, "a.zip", b"not a zip file"), "cannot read .*a.zip"),
    ],
)
def test_a_folder_without_use_is_one_clear_line(tmp_path: Path, make, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        Library(make(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "kind", "ask"),
    [("a/{}.jpg", "picture", ("photo", "a")), ("3_al_{}.wav", "recording", ("spoken", "three"))],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, kind: str, ask) -> None:
    for index in range(10):
        _with(tmp_path, name.format(index), b"broken")
    library = Library(tmp_path)
    with pytest.raises(UserError, match=f"cannot read the {kind} .*{name.format(4)}"):
        getattr(library, ask[0])(ask[1], 4)


def _with(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return folder


def test_digits_without_their_package_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    module._handwritten.cache_clear()
    with pytest.raises(UserError, match=r"install sparsight\[world\]"):
        Library().digit("1", 0)


def test_the_shared_folder_gives_photographs_garments_and_voices(shared: Path) -> None:
    folder = shared / "data" / "classify"
    if not folder.is_dir():
        pytest.skip("the shared folder holds no pictures to classify")
    library = Library(folder)
    assert {"horse", "truck", "trouser", "sneaker"} <= {*library.classes}
    assert len(library.classes) == 19
    assert library.count("photo", "horse", "train") == 1400
    assert [library.count("spoken", word, "test") for word in WORDS] == [30] * 10
    assert library.photo("sneaker", 0).shape == (28, 28, 3)
    samples, rate = library.spoken("four", 8)
    assert rate == 8000
    assert 0.1 < len(samples) / rate < 2
