"""mini: a small LLaVA-OneVision with a CLIP tower with CLS.

sparsight train recipes/mini.py --out out/mini
python recipes/evaluate_embedded.py out/mini/model
"""

from __future__ import annotations

from embedded_models import onevision
from embedded_stages import STAGES

from sparsight.train.parts import Parts
from sparsight.train.recipe import Recipe


def model() -> Parts:
    return onevision("clip")


def recipe() -> Recipe:
    return Recipe("mini", model, STAGES)
