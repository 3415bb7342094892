"""The predictor of "explain-compress" for films.

python recipes/explain_compress.py --model mini --frames 8 --count 1000
sparsight train recipes/explain_compress_films.py --out out/explain-compress-films
"""

from __future__ import annotations

from explain_compress import predictor_recipe

from sparsight.train.recipe import Recipe


def recipe() -> Recipe:
    return predictor_recipe("explain-compress-films", frames=8)
