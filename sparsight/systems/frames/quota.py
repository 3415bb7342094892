"""QuoTA: a budget of tokens for each frame, by how likely it shows what the question asks for.

The question is first taken apart into objects to detect; a model is asked of every frame whether it
shows one of them; a fixed budget is divided in proportion to the sharpened probabilities, and the
features of each frame are resized to its share. arXiv:2503.08689.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import Budget, knob, system
from sparsight.core.slots import Chosen, Need, Request
from sparsight.core.tokens import FeatureMap, VisualTokens, pack, patch_boxes
from sparsight.llm.asking import (
    asking_for_a_list,
    film_in_words,
    is_there,
    listed_objects,
    plain_nouns,
    yes_or_no,
)
from sparsight.media.sampling import uniform
from sparsight.ops.frame_budget import frame_budgets, sharpened_shares
from sparsight.ops.frame_sizes import (
    Smaller,
    by_adaptive_mean,
    by_bilinear,
    by_merging,
    by_merging_axes,
    by_stride,
    halved_grid,
)

_LOG = logging.getLogger("sparsight.systems")
AT_ONCE = 64  # frames decoded and asked about in one go
VERSIONS = {
    "v1": by_bilinear,
    "v2": by_adaptive_mean,
    "v3": by_stride,
    "v4": by_merging,
    "v5": by_merging_axes,
}


@system(
    "quota",
    title="tokens divided over frames by a yes/no question asked of each",
    paper="arXiv:2503.08689",
    official=(
        "published setting: 96 frames and 64 more an hour, 64 x 196 = 12544 tokens, asked of "
        "Qwen2-VL-2B-Instruct",
        "LLaVA-Video-7B: +3.2 % on average over six video benchmarks at equal tokens",
    ),
)
@dataclass(frozen=True)
class QuoTA:
    """Takes `frames` frames (and `more` an hour), asks of each whether it shows what matters, and
    divides `keep` tokens among them: a count, or a share of all that these frames have. A frame
    that is worth less than a token is left out. `version`: v1 bilinear (a frame may take more than
    it has, unless `cap`), v2 adaptive mean, v3 tokens at equal stride, v4 and v5 merged (the whole
    frame after halving its sides; rows, then columns). Pictures are left to the family."""

    keep: Budget = knob(12544, "tokens of the film", per="medium")
    version: Literal["v1", "v2", "v3", "v4", "v5"] = knob(
        "v1", "how a frame is made smaller", choices=("v1", "v2", "v3", "v4", "v5")
    )
    frames: int = knob(96, "frames of the film", low=1)
    more: int = knob(64, "frames more for each hour", low=0)
    exponent: float = knob(2.0, "how much a better frame is preferred; 0 is evenly", low=0.0)
    cap: bool = knob(False, "v1: no frame takes more tokens than it has")
    names: Literal["model", "words", "none"] = knob(
        "model",
        "who takes the question apart into objects: the model, a rule on words, nobody",
        choices=("model", "words", "none"),
    )
    answer: Literal["letter", "word"] = knob(
        "letter",
        "a frame is judged by the option A, or by the word yes for each object",
        choices=("letter", "word"),
    )
    scorer: str = knob("self", "the VLM asked of each frame: self, a hub id or a folder")
    times: bool = knob(
        False,
        "say the film's length and the frames' times before the question, as LLaVA-Video is asked "
        "and the published runs are; of a model that never read such words it asks much",
    )
    newline: Literal["end", "rows", "none"] = knob(
        "end",
        "newlines where the family has them: one, one a row of each frame, none",
        choices=("end", "rows", "none"),
    )

    def needs(self) -> tuple[Need, ...]:
        return (Need("film"),)

    def select(self, clip: Clip, request: Request) -> Chosen:
        frames = uniform(len(clip), self.frames + int(clip.duration / 3600 * self.more))
        viewer, texts = request.asking(self.scorer), self._questions(request)
        yes = "A" if self.answer == "letter" else "yes"
        parts = [frames[start : start + AT_ONCE] for start in range(0, len(frames), AT_ONCE)]
        sure = [viewer.probability(clip.frames(part), texts, yes).amax(1) for part in parts]
        share = sharpened_shares(torch.cat(sure), self.exponent)
        times = clip.timestamps[frames].tolist()
        told = film_in_words(clip.duration, times) if self.times else ""
        if self._capped or isinstance(self.keep, float):
            return Chosen(frames, share, told)
        # What will be given nothing need not be encoded; its time is told all the same.
        kept = frame_budgets(share, self.keep).nonzero()[:, 0]
        return Chosen([frames[place] for place in kept.tolist()], share[kept], told)

    @property
    def _capped(self) -> bool:
        return self.cap or self.version != "v1"

    def _questions(self, request: Request) -> list[str]:
        """What is asked of each frame; the surest answer counts."""
        objects = self._objects(request)
        if self.answer == "word" and objects:
            return [is_there(name) for name in objects]
        text = f"{request.text}\nDoes the image contain sufficient information to answer this?"
        if objects:
            text = f"Does the image contain any object of {', '.join(objects)}?"
        return [yes_or_no(text) if self.answer == "letter" else f"{text} Answer yes or no."]

    def _objects(self, request: Request) -> list[str]:
        """The objects that the question is about; none where it is asked as it is."""
        if self.names == "words":
            return plain_nouns(request.text)
        if self.names == "none" or not request.text.strip():
            return []
        try:
            reply = request.asking().answer(asking_for_a_list(request.text), max_tokens=256)
        except UserError:  # longer than the model has positions for
            return []
        return listed_objects(reply)

    def connect(self, features: FeatureMap) -> VisualTokens | None:
        share = features.views.share
        if share is None:
            return None
        x, make = features.features, VERSIONS[self.version]
        grid = (x.shape[1], x.shape[2])
        height, width = halved_grid(grid) if self.version == "v4" else grid
        cells = height * width
        total = round(self.keep * len(x) * cells) if isinstance(self.keep, float) else self.keep
        budgets = frame_budgets(share, total, cells if self._capped else None)
        smaller = {
            view: make(x[view], int(budgets[view])) for view in budgets.nonzero()[:, 0].tolist()
        }
        if int(budgets.max()) > cells:
            _LOG.warning(
                "quota: a frame of %d tokens is blown up to %d; cap=true forbids it",
                cells,
                int(budgets.max()),
            )
        separator = None if self.newline == "none" else features.separator

        def layout(values: Tensor, newline: Tensor | None) -> Tensor:
            frames = [one.run(values[view]) for view, one in smaller.items()]
            return self._row(frames, None if separator is None else newline)

        tokens = pack(features, layout, separator, self._coords(smaller, separator))
        if self.version in ("v3", "v4"):  # no grid: picked tokens, or any mixture of them
            return tokens
        areas = [
            functional.pad(
                patch_boxes(features.views.boxes[[view]], one.shape)[0],
                (0, 1),
                value=cells / (one.shape[0] * one.shape[1]),
            )
            for view, one in smaller.items()
        ]
        nowhere = None if separator is None else torch.tensor([0.0, 0, 0, 0, 1])
        of_tokens = self._row(areas, nowhere).to(x.device)
        return replace(tokens, box=of_tokens[:, :4], weight=of_tokens[:, 4])

    def _row(self, frames: list[Tensor], newline: Tensor | None) -> Tensor:
        """Frames (r, c, C), of different sizes, one after the other, with newlines (C,)."""
        if newline is None:
            return torch.cat([frame.flatten(0, 1) for frame in frames])
        if self.newline == "end":
            return torch.cat([*[frame.flatten(0, 1) for frame in frames], newline[None]])
        ends = newline[None, None]
        rows = [torch.cat([frame, ends.expand(len(frame), 1, -1)], 1) for frame in frames]
        return torch.cat([row.flatten(0, 1) for row in rows])

    def _coords(self, smaller: Mapping[int, Smaller], separator: Tensor | None) -> Tensor:
        """Time, row and column of each token, for families that count positions on three axes."""
        grids = [
            torch.cartesian_prod(torch.tensor([time]), *map(torch.arange, one.shape)).view(
                *one.shape, 3
            )
            for time, one in enumerate(smaller.values())
        ]
        return self._row(grids, None if separator is None else torch.zeros(3, dtype=torch.long))
