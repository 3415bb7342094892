"""mini-qwen: a small Qwen2.5-VL.

Its LLM begins with mini's weights; its tower, of another kind, learns to see from the beginning.

sparsight train recipes/mini_qwen.py --out out/mini-qwen
python recipes/evaluate_embedded.py out/mini-qwen/model
"""

from __future__ import annotations

import torch
from embedded_models import adopt
from embedded_qwen import here, qwen
from embedded_stages import shortened

from sparsight.train.parts import Parts, load_parts
from sparsight.train.recipe import Recipe


def model() -> Parts:
    return adopt(qwen(), load_parts("mini", torch.float32))


def recipe() -> Recipe:
    stages = shortened(look=3000, align=400, spell=800, ask=1000, polish=1000)
    return Recipe("mini-qwen", model, here(stages))
