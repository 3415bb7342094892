"""Task-related token compression from explainability: what will matter is told before the LLM.

Gradient-weighted attention rollout tells which visual tokens caused an answer, but only
afterwards. A small convolutional network learns to tell it from what the question looks at in the
LLM's first layer, which is cheap to read; the LLM is then given the most relevant tokens alone.
arXiv:2506.01097.

RECONSTRUCTED from the abstract and public notes, no code was found: kernel, activation and head of
the network, the reduction over heads and the positions after pruning are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import Budget, count_of, knob, positions_after, system
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import VisualTokens
from sparsight.modules.relevance import RelevancePredictor
from sparsight.ops.select import top


@lru_cache(maxsize=4)
def loaded(path: str, changed: int, device: str) -> RelevancePredictor:
    """A predictor on a device; `changed` is when its file was, so that a new one is read."""
    return RelevancePredictor.load(path).to(device)


@system(
    "explain-compress",
    title="keep the tokens that a small network, trained by explanations, calls relevant",
    paper="arXiv:2506.01097",
    official=(
        "LLaVA-OneVision, Qwen2-VL, VILA1.5: over 96 % of the accuracy at keep 0.5, 10 benchmarks",
    ),
)
@dataclass(frozen=True)
class ExplainCompress:
    """Keeps, of each medium, the tokens with the highest predicted relevance, in order. The
    network's input is the attention that the text behind the last medium pays each visual token in
    the LLM's first layer (mean over heads and words), read with all tokens in place and without
    running the layer. `predictor` names the network's file; each LLM needs its own
    (recipes/explain_compress.py), and `films` may name another for films. predictor="none" ranks by
    that attention itself: the untrained input signal, not the method. Separator tokens are not
    scored and stay. A reconstruction, not the authors' code."""

    keep: Budget = knob(0.5, "visual tokens that stay", per="medium")
    predictor: str = knob("none", "safetensors file of the trained network, or none")
    films: str = knob("same", "that for films, where it is another")
    positions: Literal["renumber", "keep"] = positions_after()

    def check(self) -> None:
        for path in (self.predictor, self.films):
            if path not in ("none", "same") and not Path(path).is_file():
                raise UserError(
                    f"explain-compress: there is no predictor {path}: train one by "
                    "recipes/explain_compress.py, or leave it at none"
                )

    def needs(self) -> tuple[Need, ...]:
        return (Need("question_attention"),)

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        attention = tokens.signals["question_attention"][candidates, 0]
        is_film = "frame" in tokens.views.roles
        path = self.films if is_film and self.films != "same" else self.predictor
        score = self._relevance(attention, path)
        kept = top(score, count_of(self.keep, len(candidates)))
        every = tokens.signals["question_attention"][:, 0].index_copy(0, candidates, score)
        reduced = replace(tokens, score=every).keep_prunable(candidates[kept])
        return replace(reduced, positions=self.positions)

    def _relevance(self, attention: Tensor, path: str) -> Tensor:
        """(n,) attention -> (n,) relevance."""
        if path == "none":
            return attention
        changed = Path(path).stat().st_mtime_ns
        return loaded(path, changed, str(attention.device))(attention[None])[0]
