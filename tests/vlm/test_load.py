from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import sparsight
from sparsight.core.errors import UserError
from tests.vlm.tiny import QUESTION, WIDE


@pytest.fixture
def copied(folder: str, tmp_path: Path) -> Path:
    """A checkpoint to break."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def refusal(model: str | Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        sparsight.load(str(model), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 400
    return message


def test_a_name_that_is_nothing_is_refused() -> None:
    assert refusal("no such/model at all").endswith(
        'is neither a folder, a hub id (owner/name), nor "mini"'
    )


def test_a_hub_id_without_a_network_says_so() -> None:
    message = refusal("nobody/nothing-at-all")
    assert "is not on this machine and the hub cannot be reached" in message


def test_a_file_is_no_model(copied: Path) -> None:
    assert "is a file: give the folder that holds config.json" in refusal(copied / "config.json")


def break_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)


def without(*patterns: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return remove


def pickled(folder: Path) -> None:
    without("*.safetensors")(folder)
    torch.save({}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def incomplete(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def of_type(kind: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        break_config(folder, json.dumps({**config, "model_type": kind}))

    return change


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without("config.json"), "has no config.json"),
        (without("*.safetensors"), "has no weights (*.safetensors)"),
        (pickled, "holds pickle weights only, which can run code: convert them to safetensors"),
        (lambda folder: break_config(folder, "{broken"), "config.json of model"),
        (lambda folder: break_config(folder, "[1, 2]"), "config.json of model"),
        (of_type("nonsense"), "has the unknown type 'nonsense': see `sparsight models`"),
        (of_type("bert"), "unknown model type 'bert'"),
        (truncated, "does not load"),
        (incomplete, "lacks 1 of its tensors"),
        (without("tokenizer*", "special_tokens*", "vocab*", "merges*"), "tokenizer"),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text("{"),
            "preprocessor_config.json of the model is not valid JSON",
        ),
        (without("chat_template*"), "has no chat template"),
    ],
    ids=[
        *("no config", "no weights", "pickle", "broken json", "json list", "unknown type"),
        *("unsupported type", "truncated weights", "missing tensor", "no tokenizer"),
        *("broken settings", "no template"),
    ],
)
def test_a_broken_folder_says_what_is_wrong(
    copied: Path, harm: Callable[[Path], object], message: str
) -> None:
    harm(copied)
    assert message in refusal(copied)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float99"}, "unknown dtype 'float99'"),
        ({"device": "toaster"}, "unknown device 'toaster': use cpu, cuda"),
        ({"device": "xpu"}, "device 'xpu'"),
        ({"attention": "magic"}, "does not load"),
    ],
)
def test_a_wrong_option_is_named(folder: str, options: dict[str, str], message: str) -> None:
    assert message in refusal(folder, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_named(folder: str) -> None:
    assert "torch finds no CUDA on this machine" in refusal(folder, device="cuda")


@pytest.mark.parametrize("dtype", ["bfloat16", "bf16", torch.bfloat16])
def test_bfloat16_loads_and_answers(folder: str, dtype: str | torch.dtype) -> None:
    vlm = sparsight.load(folder, dtype=dtype, device="cpu")
    assert {weight.dtype for weight in vlm.family.model.parameters()} == {torch.bfloat16}
    assert vlm.using("fastervlm", keep=0.5).ask(WIDE, QUESTION, max_tokens=1).usage.answer == 1


def test_a_plan_is_loaded_with_its_systems(folder: str) -> None:
    plan = sparsight.Plan.from_yaml(f"model: {folder}\nsystems: [{{fastervlm: {{keep: 4}}}}]")
    assert sparsight.load(plan, device="cpu").plan == plan
