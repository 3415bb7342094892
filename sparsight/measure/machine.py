"""The machine a result was measured on, in words that others can compare with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("sparsight", "torch", "transformers", "numpy", "av", "torchcodec")


def machine() -> dict[str, Any]:
    """Processor, cores, threads, memory, GPUs and versions; no host name, user or path."""
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "gpus": _gpus(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _cpu() -> str:
    """The processor's own name, where the system tells it; else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": gpu.name,
                "memory_gb": round(gpu.total_memory / 1e9, 1),
                "cuda": torch.version.cuda,
            }
        )
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
