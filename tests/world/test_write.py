"""Scenes to files: what is in them, and that no fault leaves anything half done."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsight
from sparsight.core.errors import UserError
from sparsight.world.encode import RATE
from sparsight.world.folder import Made
from sparsight.world.library import Library
from sparsight.world.paint import paint
from sparsight.world.request import Request
from sparsight.world.scene import Scene, pixel_size
from sparsight.world.write import make

FILMS = Request("test", "move", count=3, frames=6, side=64, fps=4.0, seed=5)
PICTURES = Request("test", "color", count=3, side=65, aspect=1.5, seed=5)
TONES = Request("test", "sound", count=2, frames=8, side=64, fps=2.0, seed=1)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "conversations.jsonl").read_text().splitlines()]


def scenes(request: Request) -> list[Scene]:
    return [item.scene for item in request.asked(Library())]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# What is in the files


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The films of FILMS with their masks."""
    folder = tmp_path_factory.mktemp("films")
    assert make(FILMS, folder, masks=True) == Made(media=3, found=0, records=3)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make(PICTURES, folder, masks=True)
    return folder


def test_a_film_has_its_frames_at_their_times(films: Path) -> None:
    for record in records(films):
        clip = sparsight.load_media(films / record["video"])
        assert clip.timestamps.tolist() == [k / 4.0 for k in range(6)]
        assert clip.duration == pytest.approx(1.5)
        assert clip.size == (64, 64)


def test_a_film_shows_what_was_painted(films: Path) -> None:
    for record, scene in zip(records(films), scenes(FILMS), strict=True):
        shown = sparsight.load_media(films / record["video"]).frames().numpy().astype(int)
        painted = np.asarray(paint(scene, scene.times, 64).frames).astype(int)
        assert np.abs(shown - painted).mean() < 6  # H.264 keeps one color for four pixels


def test_the_masks_of_a_film_are_exact(films: Path) -> None:
    for record, scene in zip(records(films), scenes(FILMS), strict=True):
        shown = sparsight.load_media(films / record["masks"]).frames().numpy()[..., 0]
        assert (shown == np.asarray(paint(scene, scene.times, 64).owners)).all()


def test_a_picture_and_its_masks_are_exact(pictures: Path) -> None:
    for record, scene in zip(records(pictures), scenes(PICTURES), strict=True):
        painted = paint(scene, scene.times, 65)
        shown = sparsight.load_media(pictures / record["image"]).frames()
        masks = sparsight.load_media(pictures / record["masks"]).frames()
        assert (shown.numpy() == np.asarray(painted.frames)).all()
        assert (masks.numpy()[..., 0] == np.asarray(painted.owners)).all()
        assert shown.shape[1:3] == pixel_size(scene, 65)


def test_sound_is_in_the_film_and_beside_it(tmp_path: Path) -> None:
    make(TONES, tmp_path, sound=True)
    for record, scene in zip(records(tmp_path), scenes(TONES), strict=True):
        film = sparsight.load_media(tmp_path / record["video"]).source.audio()
        assert film is not None
        assert film.rate == RATE
        heard = film.samples.numpy()[: round(scene.duration * RATE)]  # AAC ends in whole packets
        loud = np.abs(heard).reshape(-1, RATE // 10).max(1) > 0.05
        told = np.zeros_like(loud)
        for sound in scene.sounds:
            told[round(sound.start * 10) : round(sound.end * 10)] = True
        assert np.mean(loud == told) > 0.9
        size = (tmp_path / record["audio"]).stat().st_size
        assert size == 44 + 2 * round(scene.duration * RATE)


def test_films_without_sound_asked_for_are_silent(tmp_path: Path) -> None:
    make(TONES, tmp_path)
    assert sparsight.load_media(tmp_path / "media/000000.mp4").source.audio() is None
    assert not list(tmp_path.rglob("*.wav"))
    assert "audio" not in records(tmp_path)[0]


# The records


@pytest.mark.parametrize("folder", ["films", "pictures"])
def test_records_are_what_llava_trains_on(folder: str, request: pytest.FixtureRequest) -> None:
    """As LLaVA's and LLaVA-NeXT's train.py read them: one medium, its placeholder at the start
    of the first turn and nowhere else, human and gpt in turn."""
    found = request.getfixturevalue(folder)
    lines = records(found)
    assert len({record["id"] for record in lines}) == len(lines) == 3
    for record in lines:
        (path,) = {record.get("image"), record.get("video")} - {None}
        assert (found / path).is_file()
        human, gpt = record["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert human["value"].startswith("<image>\n")
        assert human["value"].count("<image>") == 1
        assert gpt["value"]


@pytest.mark.parametrize("folder", ["films", "pictures"])
def test_the_trainer_reads_the_records(folder: str, request: pytest.FixtureRequest) -> None:
    from sparsight.train.conversations import Conversations

    found = request.getfixturevalue(folder)
    read = Conversations(found / "conversations.jsonl")
    assert len(read) == 3
    for dialogue, record in zip((read[k] for k in range(3)), records(found), strict=True):
        (medium,) = dialogue.conversation.media
        assert Path(medium) == found / (record.get("video") or record["image"])


def test_a_conversation_has_its_turns_in_one_record(tmp_path: Path) -> None:
    make(Request("val", count=2, frames=1, side=64, turns=3), tmp_path)
    for record in records(tmp_path):
        said = record["conversations"]
        assert [part["from"] for part in said] == ["human", "gpt"] * (len(said) // 2)
        assert len(said) > 2
        assert ["<image>" in part["value"] for part in said] == [True] + [False] * (len(said) - 1)
        assert len(record["turns"]) == len(said) // 2


def test_a_mixture_has_a_record_a_question(tmp_path: Path) -> None:
    made = make(Request("val", count=2, frames=1, side=64), tmp_path)
    lines = records(tmp_path)
    assert made.media == 2 < made.records == len(lines)
    assert {record["image"] for record in lines} == {"media/000000.png", "media/000001.png"}
    assert len({record["task"] for record in lines}) > 2


def test_choices_are_lettered(tmp_path: Path) -> None:
    make(Request("val", "color", count=2, side=64, form="choice"), tmp_path)
    for record in records(tmp_path):
        assert record["form"] == "choice"
        assert "A." in record["conversations"][0]["value"]
        assert record["conversations"][1]["value"] in "ABCDEFGH"


def test_the_boxes_of_the_truth_hold_the_masks(films: Path) -> None:
    seen = 0
    for record in records(films):
        masks = sparsight.load_media(films / record["masks"]).frames().numpy()[..., 0]
        for thing, boxes in enumerate(record["truth"]["boxes"]):
            for mask, box in zip(masks, boxes, strict=True):
                rows, columns = np.nonzero(mask == thing + 1)
                if len(rows):
                    x0, y0, x1, y1 = np.array(box) * 0.64
                    seen += 1
                    assert x0 - 1.5 <= columns.min() <= columns.max() + 1 <= x1 + 1.5
                    assert y0 - 1.5 <= rows.min() <= rows.max() + 1 <= y1 + 1.5
    assert seen > 10


def test_records_name_the_things_that_are_asked_about(films: Path) -> None:
    for record in records(films):
        (thing,) = record["about"]
        name = record["truth"]["things"][thing]["name"]
        noun = name.partition(" ")[2] or name
        assert noun in record["conversations"][0]["value"]


def test_the_truth_tells_events_in_words(films: Path) -> None:
    for record in records(films):
        moves = [event for event in record["truth"]["events"] if event["action"] == "move"]
        assert record["conversations"][1]["value"] in {event["detail"] for event in moves}
        assert all(f"moves {event['detail']}" in event["what"] for event in moves)


# Stopped and gone on


class Stop(BaseException):
    """Stands for a Ctrl-C at a known moment."""


def test_a_stopped_run_goes_on_to_the_same_bytes(films: Path, tmp_path: Path) -> None:
    done = 0

    def stop(frames: int) -> None:
        nonlocal done
        done += frames
        if done > 6:  # in the middle of the second film
            raise Stop

    with pytest.raises(Stop):
        make(FILMS, tmp_path, masks=True, on_frames=stop)
    assert set(contents(tmp_path)) == {
        "world.json",
        "media/000000.mp4",
        "media/000000.masks.mkv",
    }
    assert make(FILMS, tmp_path, masks=True) == Made(media=3, found=1, records=3)
    assert contents(tmp_path) == contents(films)


def test_what_a_killed_run_left_is_taken_away(films: Path, tmp_path: Path) -> None:
    make(FILMS, tmp_path, masks=True)
    (tmp_path / "media/000001.mp4").unlink()
    for left in ("media/.000001.mp4.4711.part", ".conversations.jsonl.4711.part"):
        (tmp_path / left).write_bytes(b"half")
    make(FILMS, tmp_path, masks=True)
    assert contents(tmp_path) == contents(films)


def test_long_films_are_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is written before the next is painted."""
    from sparsight.world import write

    painted = told = 0
    whole = write.paint_film

    def counted(*args: Any, **options: Any) -> Iterator[Any]:
        nonlocal painted
        for piece in whole(*args, chunk=4, **options):
            painted += len(piece.frames)
            yield piece
            assert told == painted

    def tell(frames: int) -> None:
        nonlocal told
        told += frames

    monkeypatch.setattr(write, "paint_film", counted)
    make(Request("test", "move", count=1, frames=10, side=64), tmp_path, on_frames=tell)
    assert told == painted == 10
    assert len(sparsight.load_media(tmp_path / "media/000000.mp4")) == 10


def test_a_higher_count_adds_to_what_is_there(films: Path, tmp_path: Path) -> None:
    make(replace(FILMS, count=1), tmp_path, masks=True)
    assert make(FILMS, tmp_path, masks=True) == Made(media=3, found=1, records=3)
    assert contents(tmp_path) == contents(films)


# Faults


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file grows beyond `limit` bytes: the system refuses the write as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(("request_", "limit"), [(FILMS, 2000), (PICTURES, 1000)])
def test_a_full_disk_is_named_and_leaves_nothing_half(
    request_: Request, limit: int, tmp_path: Path
) -> None:
    with full_disk(limit), pytest.raises(OSError, match=r"media/000000\.(mp4|png)"):
        make(request_, tmp_path)
    assert set(contents(tmp_path)) == {"world.json"}
    assert make(request_, tmp_path).media == 3


def test_a_disk_that_fills_up_at_the_records_keeps_the_media(tmp_path: Path) -> None:
    make(PICTURES, tmp_path)
    before = contents(tmp_path)
    (tmp_path / "conversations.jsonl").unlink()
    with full_disk(1000), pytest.raises(OSError, match=r"conversations\.jsonl"):
        make(PICTURES, tmp_path)
    assert make(PICTURES, tmp_path).found == 3
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 6}, "seed=5, not 6"),
        ({"count": 2}, "count=3, not 2"),
        ({"side": 66}, "side=64, not 66"),
    ],
)
def test_another_request_does_not_mix_with_what_is_there(
    films: Path, change: dict[str, Any], words: str
) -> None:
    before = contents(films)
    with pytest.raises(UserError, match=words):
        make(replace(FILMS, **change), films, masks=True)
    assert contents(films) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media/000000.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="something else"):
        make(PICTURES, tmp_path)
    assert set(contents(tmp_path)) == {"media/000000.png"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/out: no files can be written there"):
        make(PICTURES, tmp_path / "file" / "out")


def test_a_missing_folder_of_sprites_is_named_before_anything_is_written(tmp_path: Path) -> None:
    asked = Request("test", "color", sprites=tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere"):
        make(asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_films_of_odd_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="side must be even for films, not 65"):
        make(Request(task="move", side=65), tmp_path / "out")
    assert not (tmp_path / "out").exists()
