"""mini-siglip: a small LLaVA-OneVision with a SigLIP tower without CLS.

sparsight train recipes/embedded_mini_siglip.py --out out/mini-siglip
python recipes/evaluate_embedded.py out/mini-siglip/model
"""

from __future__ import annotations

from embedded_models import onevision
from embedded_stages import STAGES

from sparsight.train.parts import Parts
from sparsight.train.recipe import Recipe


def model() -> Parts:
    return onevision("siglip")


def recipe() -> Recipe:
    return Recipe("mini-siglip", model, STAGES)
