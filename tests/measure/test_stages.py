"""The clock of the stages."""

from __future__ import annotations

import time

import pytest
import torch

from sparsight.measure import stages as module
from sparsight.measure.stages import Stages, synchronize


def test_seconds_add_up_in_the_order_of_the_stages():
    stages = Stages("cpu")
    for name in ("decode", "encode", "decode"):
        with stages(name):
            time.sleep(0.01)
    stages.add("prefill", 0.25)
    stages.add("prefill", 0.25)
    assert list(stages.seconds) == ["decode", "encode", "prefill"]
    assert stages.seconds["decode"] >= 0.02
    assert 0.01 <= stages.seconds["encode"] < stages.seconds["decode"]
    assert stages.seconds["prefill"] == 0.5


def test_stages_do_not_nest():
    stages = Stages("cpu")
    with pytest.raises(AssertionError, match="'reduce' begins inside stage 'encode'"):  # noqa: SIM117
        with stages("encode"), stages("reduce"):
            pass
    with stages("reduce"):
        pass


def test_a_stage_that_raises_is_closed_and_counted():
    stages = Stages("cpu")
    with pytest.raises(KeyError), stages("decode"):
        raise KeyError
    with stages("encode"):
        pass
    assert list(stages.seconds) == ["decode", "encode"]


@pytest.mark.parametrize(
    ("device", "waits"), [("cuda:0", ["cuda:0"]), ("mps", ["mps"]), ("cpu", [])]
)
def test_every_stage_ends_by_waiting_for_its_device(
    device: str, waits: list[str], monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(str(device)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: calls.append("mps"))
    with Stages(device)("encode"):
        assert not calls
    assert calls == waits


def test_the_wait_is_part_of_the_stage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "synchronize", lambda device: time.sleep(0.02))
    stages = Stages("cpu")
    with stages("encode"):
        pass
    assert stages.seconds["encode"] >= 0.02


def test_a_cpu_has_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch):
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: waited.append("cuda"))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    synchronize("cpu")
    assert waited == []
