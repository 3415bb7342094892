"""mini-siglip: a small LLaVA-OneVision with a SigLIP tower without CLS.

It begins with mini's weights, of which its tower lacks CLS and the norm before the first block.

sparsight train recipes/mini_siglip.py --out out/mini-siglip
python recipes/evaluate_embedded.py out/mini-siglip/model
"""

from __future__ import annotations

import torch
from embedded_models import adopt, onevision
from embedded_stages import shortened

from sparsight.train.parts import Parts, load_parts
from sparsight.train.recipe import Recipe


def model() -> Parts:
    return adopt(onevision("siglip"), load_parts("mini", torch.float32))


def recipe() -> Recipe:
    return Recipe("mini-siglip", model, shortened(look=800, ask=400, polish=1000))
