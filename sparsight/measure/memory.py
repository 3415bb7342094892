"""Memory: what a key-value cache takes by formula, and the peak of a process or device."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from sparsight.measure.flops import DecoderShape

_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def kv_bytes_per_token(shape: DecoderShape, value_bytes: int = 2) -> int:
    """Bytes of keys and values that one token takes in all layers; bf16 has 2 bytes a value."""
    return 2 * shape.layers * shape.kv_heads * shape.head_width * value_bytes


def kv_bytes(shape: DecoderShape, tokens_per_layer: Sequence[int], value_bytes: int = 2) -> int:
    """Bytes of a cache that holds `tokens_per_layer` (L counts) of one sequence.

    What a real cache holds is counted by `sparsight.llm.cache.kv_bytes`.
    """
    assert len(tokens_per_layer) == shape.layers, (len(tokens_per_layer), shape.layers)
    return 2 * shape.kv_heads * shape.head_width * value_bytes * sum(tokens_per_layer)


def reset_peak(device: torch.device | str) -> None:
    """Begin a new peak: on a CUDA device, or of the process where the system is Linux. Elsewhere
    the peak of a process cannot be reset."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def give_back_freed() -> None:
    """Hand freed memory back to the system. glibc keeps it in pieces of all sizes, and where the
    sizes asked for change from step to step the process grows to several times what it uses.
    Getting it anew takes time: do this where memory is scarce."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def is_scarce(share: float = 0.25) -> bool:
    """Whether less than this share of the machine's memory is available; no where the system does
    not tell."""
    found = _meminfo()
    return len(found) == 2 and found["MemAvailable"] < share * found["MemTotal"]


def spare_bytes(share: float = 0.25, most: int = 4 << 30) -> int:
    """What a program may fill with things that it could do without: this share of the memory that
    is available, at most `most`; nothing where the system does not tell."""
    return min(most, int(share * _meminfo().get("MemAvailable", 0)))


def _meminfo() -> dict[str, int]:
    """Bytes of the machine's memory by name; empty where the system does not tell."""
    try:
        told = Path("/proc/meminfo").read_text()
    except OSError:
        return {}
    found = re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", told, re.MULTILINE)
    return {name: 1024 * int(count) for name, count in found}


def used_bytes(device: torch.device | str) -> int:
    """The memory in use now: of tensors on CUDA, elsewhere the resident size of the process (its
    largest so far where the system does not tell)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_bytes(device)


def peak_bytes(device: torch.device | str) -> int:
    """The most memory in use since `reset_peak`, or so far.

    On CUDA the tensors' peak, from the allocator; elsewhere the largest resident size of the
    process.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # not by getrusage, which cannot forget, and begins with what started the process
        return int(_HIGH_WATER.search(Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
