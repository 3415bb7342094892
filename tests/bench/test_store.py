"""Records on disk: whole lines, one writer, and nothing of a run in another's file."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparsight.bench.record import Record
from sparsight.bench.store import Run, Store
from sparsight.core.errors import UserError
from tests.bench.fakes import record

RUN = Run("mini", "systems: []\n", "world", {"batch": 1, "dtype": "float32"})


def filled(folder: Path, *names: str) -> None:
    with Store(folder) as store:
        store.begin(RUN, {"seed": 0})
        store.add(RUN.key, [(f"sign {name}", record(name)) for name in names])


def test_records_come_back_as_they_were(tmp_path: Path):
    first = record("a", False, reply="nein\n\u2028", error="gone: there is no such file")
    with Store(tmp_path) as store:
        store.begin(RUN, {"seed": 3, "machine": {"cpu": "any"}})
        store.add(RUN.key, [("1", first), ("2", record("b"))])
        assert store.records(RUN.key) == {"a": first, "b": record("b")}
    with Store(tmp_path) as store:
        assert store.records(RUN.key) == {"a": first, "b": record("b")}
        assert store.signs(RUN.key) == {"a": "1", "b": "2"}
        assert store.records("another") == {}


def test_the_first_line_says_what_the_run_is(tmp_path: Path):
    filled(tmp_path, "a")
    head = json.loads((tmp_path / f"{RUN.key}.jsonl").read_text().splitlines()[0])
    assert head == {
        "model": "mini", "plan": "systems: []\n", "data": "world",
        "batch": 1, "dtype": "float32", "seed": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, model="another"),
        replace(RUN, plan="systems: [fastv]\n"),
        replace(RUN, data="my.jsonl"),
        replace(RUN, settings={**RUN.settings, "batch": 2}),
    ],
)
def test_another_run_has_another_file(tmp_path: Path, other: Run):
    filled(tmp_path, "a")
    with Store(tmp_path) as store:
        assert store.records(other.key) == {}
        store.begin(other, {})
        store.add(other.key, [("", record("b"))])
        assert list(store.records(RUN.key)) == ["a"]


def test_the_order_of_settings_does_not_matter():
    turned = dict(reversed(RUN.settings.items()))
    assert replace(RUN, settings=turned).key == RUN.key


@pytest.mark.parametrize("cut", [1, 40])
def test_a_line_that_was_cut_short_is_taken_off_and_written_again(tmp_path: Path, cut: int):
    filled(tmp_path, "a", "b")
    path = tmp_path / f"{RUN.key}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Store(tmp_path) as store:
        assert list(store.records(RUN.key)) == ["a"]
        store.begin(RUN, {"seed": 9})
        store.add(RUN.key, [("sign b", record("b"))])
    assert path.read_bytes() == whole


def test_a_header_that_was_cut_short_is_written_again(tmp_path: Path):
    filled(tmp_path, "a")
    path = tmp_path / f"{RUN.key}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    filled(tmp_path, "a")
    assert path.read_bytes() == whole


def test_a_later_record_of_an_item_takes_the_place_of_the_first(tmp_path: Path):
    filled(tmp_path, "a")
    with Store(tmp_path) as store:
        store.add(RUN.key, [("new", record("a", False))])
    with Store(tmp_path) as store:
        assert store.records(RUN.key) == {"a": record("a", False)}
        assert store.signs(RUN.key) == {"a": "new"}


@pytest.mark.parametrize("line", ["{}", "[1]", "null", "{broken", '{"sign": "", "item": "x"}'])
def test_a_broken_line_in_the_middle_is_told(tmp_path: Path, line: str):
    filled(tmp_path, "a", "b")
    path = tmp_path / f"{RUN.key}.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with Store(tmp_path) as store, pytest.raises(UserError, match=r"line 3 is broken: remove"):
        store.records(RUN.key)


def test_a_full_disk_leaves_whole_lines_and_names_the_file(tmp_path: Path, monkeypatch):
    filled(tmp_path, "a")
    path = tmp_path / f"{RUN.key}.jsonl"
    whole = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path) as store, monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            store.add(RUN.key, [("", record("b"))])
        assert caught.value.filename == str(path)
        assert list(store.records(RUN.key)) == ["a"]
    assert path.read_bytes() == whole


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path):
    with Store(tmp_path), pytest.raises(UserError, match="another run writes there"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        Store(tmp_path / "file" / "records")


def test_a_record_of_other_fields_is_none():
    values = record("a").as_dict()
    assert Record.from_dict(values) == record("a")
    with pytest.raises(ValueError, match="memory"):
        Record.from_dict({name: value for name, value in values.items() if name != "memory"})
