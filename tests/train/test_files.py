"""Checkpoints and the log as files: whole or not there, torn lines and leftovers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from sparsight.train import checkpoints
from sparsight.train.logs import Log, Meter, means, merged


def fill(folder: Path, text: str = "x") -> Path:
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps({"text": text}))
    return folder


def test_the_newest_checkpoint_is_of_the_latest_stage_then_step(tmp_path: Path):
    for name in ("look-00000900", "ask-all-00000020", "ask-all-00000100", ".ask-all-00000200.part",
                 "other-00000999", "ask-all-1"):  # fmt: skip
        fill(tmp_path / name)
    found = checkpoints.last(tmp_path, ["look", "ask-all"])
    assert found is not None
    assert (found.folder.name, found.stage, found.step) == ("ask-all-00000100", "ask-all", 100)
    assert found.read() == {"text": "x"}
    assert checkpoints.last(tmp_path / "gone", ["look"]) is None
    assert checkpoints.any_in(tmp_path)
    assert not checkpoints.any_in(tmp_path / "gone")


def test_pruning_leaves_one_and_what_is_not_ours(tmp_path: Path):
    for name in ("look-00000900", "ask-00000100", ".ask-00000200.part", "notes"):
        fill(tmp_path / name)
    checkpoints.prune(tmp_path, tmp_path / "ask-00000100")
    assert {path.name for path in tmp_path.iterdir()} == {"ask-00000100", "notes"}


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path):
    target = fill(tmp_path / "model", "old")

    def fail() -> None:
        with checkpoints.whole(target) as folder:
            (folder / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert "old" in (target / "stage.json").read_text()
    with checkpoints.whole(target) as folder:
        (folder / "new").touch(mode=0o600)
        assert (target / "stage.json").exists()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert (target / "new").stat().st_mode & 0o444 == 0o444
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_rewinding_the_log_drops_torn_and_later_lines(tmp_path: Path):
    log = Log(tmp_path / "log.jsonl")
    log.rewind(lambda line: True)  # there is none yet
    assert not log.path.exists()
    for step in range(4):
        log.add({"step": step, "loss": math.nan if step == 1 else 0.5})
    with log.path.open("a") as file:
        file.write('{"step": 4, "lo')
    log.rewind(lambda line: line["step"] < 3)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert lines == [
        {"step": 0, "loss": 0.5}, {"step": 1, "loss": "nan"}, {"step": 2, "loss": 0.5},
    ]  # fmt: skip


def test_a_meter_gives_weighted_means_and_goes_on_from_where_it_was():
    meter = Meter(torch.device("cpu"))
    meter.add("loss", torch.tensor(2.0, requires_grad=True) * 3, 3)
    meter.add("loss", torch.tensor(4.0))
    meter.add("right", torch.tensor(7), torch.tensor(10))
    meter.add("speed", 0.1)
    meter.add("never", 0.0, 0)
    sums = meter.read()
    assert sums["loss"] == (10.0, 4.0)
    again = Meter(torch.device("cpu"))
    again.write(json.loads(json.dumps(sums)))
    assert again.read() == sums
    again.add("loss", 1.0)
    found = means(again.read())
    assert found == {"loss": 2.2, "right": pytest.approx(0.7), "speed": pytest.approx(0.1)}
    assert merged([sums, {"loss": (2.0, 1.0), "new": (1.0, 1.0)}])["loss"] == (12.0, 5.0)
    meter.clear()
    assert meter.read() == {}
