"""Key-value bytes and peaks."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.qwen2 import Qwen2Config

from sparsight.measure.flops import DecoderShape, decoder_shape
from sparsight.measure.memory import (
    give_back_freed,
    is_scarce,
    kv_bytes,
    kv_bytes_per_token,
    peak_bytes,
    reset_peak,
    used_bytes,
)


def test_bytes_a_token_are_the_published_ones():
    assert kv_bytes_per_token(DecoderShape(32, 4096, 32, 32, 128, 11008, 32000)) == 524_288
    assert kv_bytes_per_token(DecoderShape(28, 3584, 28, 4, 128, 18944, 152064)) == 57_344


def test_the_formula_equals_a_real_cache():
    config = Qwen2Config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        num_hidden_layers=3, vocab_size=50,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        cache = model(torch.randint(0, 50, (1, 30))).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    shape = decoder_shape(config)
    assert kv_bytes(shape, [30] * 3, value_bytes=4) == held
    assert kv_bytes_per_token(shape, value_bytes=4) * 30 == held


def test_tokens_dropped_inside_the_llm_take_no_bytes():
    shape = DecoderShape(3, 64, 4, 2, 16, 96, 50)
    assert kv_bytes(shape, [30, 10, 5]) == 2 * 2 * 16 * 2 * 45


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_the_peak_is_the_one_that_the_system_counts():
    reset_peak("cpu")
    told = peak_bytes("cpu")
    line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line is not None
    assert told == pytest.approx(int(line[1]) * 1024, rel=0.05)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system is not Linux")
def test_a_new_peak_begins_where_the_process_stands():
    program = """
import torch
from sparsight.measure.memory import peak_bytes, reset_peak, used_bytes
large = torch.ones(64_000_000)  # 256 MB, given back to the system when it goes
before = peak_bytes("cpu")
del large
reset_peak("cpu")
stands = used_bytes("cpu")
print(before - peak_bytes("cpu"))
smaller = torch.ones(16_000_000)
del smaller
print(peak_bytes("cpu") - stands)
"""  # in a process of its own: what others have freed before may be used again
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fallen, risen = map(int, done.stdout.split())
    assert fallen > 200_000_000
    assert 55_000_000 < risen < 90_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_goes_back_to_the_system():
    blocks = [torch.ones(16_000) for _ in range(3000)]  # 190 MB in pieces that glibc keeps
    after = torch.ones(16_000)  # behind them, so that they are not at the end of the heap
    held = used_bytes("cpu")
    del blocks
    give_back_freed()
    assert used_bytes("cpu") < held - 150_000_000
    assert after.sum() == 16_000


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system is not Linux")
def test_memory_is_scarce_below_a_share_of_the_machines():
    assert not is_scarce(1e-6)
    assert is_scarce(1.0)
