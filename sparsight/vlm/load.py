"""Loading a checkpoint: a hub id, a local folder, or "mini" (embedded, no download).

safetensors only; no remote code.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from sparsight.core.errors import UserError
from sparsight.vlm.families import family_for
from sparsight.vlm.families.base import Family
from sparsight.vlm.families.settings import read_settings

_DTYPES = {
    "auto": "auto",
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_family(
    model: str,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    attention: str | None = None,
) -> Family:
    """Load a checkpoint and wrap it in its family.

    Args:
        model: "mini", a local folder, or a hub id such as
            "llava-hf/llava-onevision-qwen2-0.5b-ov-hf".
        dtype: "auto" (as stored), "float32", "bfloat16", "float16", or a torch dtype.
        device: e.g. "cpu" or "cuda"; None takes CUDA where there is one.
        attention: transformers' attn_implementation; None is its default.

    Raises `UserError` with one line for an unknown model, a folder without config or weights,
    pickle weights, an unsupported family, an unknown dtype or a device that is not there.
    """
    chosen = _dtype(dtype)
    place = _device(device)
    folder = find_model(model)
    config = _config(folder, model)
    cls = family_for(config)
    try:
        loaded, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            config=config,
            dtype=chosen,
            use_safetensors=True,
            attn_implementation=attention,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"model {model!r} does not load: {first[:200]}") from error
    if report["missing_keys"]:  # transformers would go on with random numbers in their place
        missing = sorted(report["missing_keys"])
        raise UserError(
            f"model {model!r} lacks {len(missing)} of its tensors, such as {missing[0]}: "
            "download it again"
        )
    settings = read_settings(folder)
    if settings.chat_template is None and not tokenizer.chat_template:
        raise UserError(f"model {model!r} has no chat template: take an instruction-tuned one")
    return cls(loaded.to(place).eval(), tokenizer, settings)


def find_model(model: str) -> Path:
    """The local folder of a model, downloaded first when it is a hub id."""
    if model == "mini":
        return Path(str(importlib.resources.files("sparsight").joinpath("world", "mini")))
    folder = Path(model).expanduser()
    if folder.is_dir():
        _check_folder(folder, model)
        return folder
    if folder.exists():
        raise UserError(f"model {model!r} is a file: give the folder that holds config.json")
    if not _HUB_ID.fullmatch(model):
        raise UserError(f'model {model!r} is neither a folder, a hub id (owner/name), nor "mini"')
    return _download(model)


def _check_folder(folder: Path, model: str) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"model folder {model!r} has no config.json")
    if any(folder.glob("*.safetensors")):
        return
    if any(found for pattern in _PICKLES for found in folder.glob(pattern)):
        raise UserError(
            f"model folder {model!r} holds pickle weights only, which can run code: "
            "convert them to safetensors"
        )
    raise UserError(f"model folder {model!r} has no weights (*.safetensors)")


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = snapshot_download(
            model, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
        )
    except GatedRepoError:
        raise UserError(f"model {model!r} asks you to accept its terms: log in first") from None
    except RepositoryNotFoundError:
        raise UserError(f"there is no model {model!r} on the hub") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        raise UserError(
            f"model {model!r} is not on this machine and the hub cannot be reached: "
            "check the connection, or give a local folder"
        ) from None
    _check_folder(Path(folder), model)
    return Path(folder)


def _config(folder: Path, model: str) -> Any:
    try:
        return AutoConfig.from_pretrained(folder)
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        pass
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except (ValueError, OSError, AttributeError):
        raise UserError(f"config.json of model {model!r} is not valid JSON") from None
    raise UserError(f"model {model!r} has the unknown type {kind!r}: see `sparsight models`")


def _dtype(dtype: str | torch.dtype) -> Any:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise UserError(f"unknown dtype {dtype!r} (known: {', '.join(_DTYPES)})")
    return _DTYPES[dtype]


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise UserError(f"unknown device {device!r}: use cpu, cuda, cuda:0, mps") from None
    if place.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {device!r} is not supported: use cpu, cuda, cuda:0, mps")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} is not there: torch finds no CUDA on this machine")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device {device!r} is not there: torch finds no MPS on this machine")
    return place
