"""mini-qwen: a small Qwen2.5-VL.

sparsight train recipes/embedded_mini_qwen.py --out out/mini-qwen
python recipes/evaluate_embedded.py out/mini-qwen/model
"""

from __future__ import annotations

from embedded_qwen import qwen, stages

from sparsight.train.recipe import Recipe


def recipe() -> Recipe:
    return Recipe("mini-qwen", qwen, stages())
