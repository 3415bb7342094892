"""T*: the frames that show what a question is about, found by looking at grids of frames.

Search in time becomes search in space. The model names the objects that matter; frames are looked
at in grids, and what is found in one grid says where in time the next is taken from, until every
object is confirmed or the budget is spent. arXiv:2504.02259.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.core.slots import Need, Request
from sparsight.llm.asking import (
    asking_for_objects,
    is_there,
    key_and_cue_objects,
    plain_nouns,
)
from sparsight.media.sampling import fps, uniform
from sparsight.modules.finders import AskingFinder, Finder, load_detector
from sparsight.ops.regrid import contact_sheet, resized
from sparsight.ops.temporal_search import (
    Search,
    cells_of_boxes,
    drawn_moments,
    first_look,
    found_moments,
    learn,
    look_closer,
    next_look,
)

MOST = 1000  # moments looked at in one search
CELL, ALONE = (95, 200), (285, 600)  # height and width of a frame in a grid, and on its own
SHOWN = 8  # frames that the model sees before it names objects
CUE = 0.5  # what a cue object counts beside a key object


@system(
    "tstar",
    title="key frames found by temporal search with a detector or the model itself",
    paper="arXiv:2504.02259",
    official=(
        "published setting: 8 or 32 frames, 4 x 4 grids, YOLO-World or OWL-ViT as the detector",
        "LongVideoBench XL at 32 frames: GPT-4o 50.5 % -> 53.1 %, LLaVA-OneVision-72B "
        "56.5 % -> 62.4 %",
    ),
)
@dataclass(frozen=True)
class TStar:
    """Takes `frames` frames of a film, one a second at most (`rate`). Who looks is the model
    itself, frame by frame (the probability of "yes" to "Is there a NAME?"); with `scorer` another
    VLM; with
    `detector` a zero-shot detector of transformers, which sees whole grids and then single frames
    to be sure. Where the question names nothing, the frames are spread evenly. The official code
    takes `pick=draw`; `top` is its deterministic counterpart."""

    frames: int = knob(8, "frames of the film", low=1)
    grid: tuple[int, ...] = knob((4, 4), "rows and columns of a grid of frames", low=1)
    budget: float = knob(0.5, "share of the moments that may be looked at", low=0.0, high=1.0)
    confidence: float = knob(0.6, "an object is found above this", low=0.0, high=1.0)
    window: int = knob(5, "moments around a good one that are raised too", low=0)
    rate: float = knob(1.0, "moments a second", low=0.01)
    pick: Literal["top", "draw"] = knob(
        "top", "frames of highest score, or drawn by their score", choices=("top", "draw")
    )
    names: Literal["model", "words"] = knob(
        "model", "who names the objects: the model, or a rule on words", choices=("model", "words")
    )
    scorer: str = knob("self", "the VLM that is asked: self, a hub id or a folder")
    detector: str = knob("", "a zero-shot detector in its place: hub id or folder")
    threshold: float = knob(0.005, "boxes a detector is less sure of are no boxes", low=0.0)
    seed: int = knob(0, "of the draws")

    def check(self) -> None:
        if len(self.grid) != 2:
            raise UserError(f"tstar: grid={self.grid} must be two numbers: rows,columns")

    def needs(self) -> tuple[Need, ...]:
        return (Need("film"),)

    def select(self, clip: Clip, request: Request) -> list[int]:
        moments = fps(clip.timestamps, self.rate)
        if len(moments) <= self.frames:  # nothing to leave out
            return uniform(len(clip), self.frames)
        keys, cues = self._objects(clip, request)
        if not keys:
            return [moments[place] for place in uniform(len(moments), self.frames)]
        search = self.search(clip, moments, keys, cues, self._finder(request))
        if self.pick == "top":
            chosen = found_moments(search, self.frames)
        else:
            draw = torch.Generator().manual_seed(self.seed)
            chosen = drawn_moments(search, self.frames, draw)
        return [moments[place] for place in chosen.tolist()]

    def _objects(self, clip: Clip, request: Request) -> tuple[list[str], list[str]]:
        """Key objects and cue objects of the question."""
        if self.names == "model" and request.text.strip():
            viewer = request.asking(self.scorer)
            shown = clip.frames(uniform(len(clip), SHOWN))
            try:
                reply = viewer.answer(asking_for_objects(request.text), shown, max_tokens=64)
            except UserError:  # longer than the model has positions for
                reply = ""
            named = key_and_cue_objects(reply)
            if named is not None:
                return named
        return plain_nouns(request.text), []

    def _finder(self, request: Request) -> Finder:
        if self.detector:
            return load_detector(self.detector, str(request.text_embeds.device), self.threshold)
        return AskingFinder(request.asking(self.scorer), is_there)

    def search(
        self, clip: Clip, moments: list[int], keys: list[str], cues: list[str], finder: Finder
    ) -> Search:
        """Look until every key object is found or the budget is spent.

        Args:
            moments: the frames of the time axis.
        """
        names = [*keys, *cues]
        weight = torch.tensor([1.0] * len(keys) + [CUE] * len(cues), dtype=torch.float64)
        draw = torch.Generator().manual_seed(self.seed)
        total = len(moments)
        count = min(self.grid[0] * self.grid[1], total)
        search = Search.over(total, 0.3 * self.confidence)
        missing, left = set(range(len(keys))), min(MOST, total * self.budget)
        looked = first_look(total, count)
        while missing and left > 0:
            left -= count
            frames = clip.frames([moments[place] for place in looked.tolist()])
            if finder.tiled:
                best, listed = self._look_at_grid(frames, finder, names, weight)
                search = learn(search, looked, best, window=self.window)
                for place in range(count):  # once more, larger, until all are found
                    if not missing & set(listed[place].nonzero()[:, 0].tolist()):
                        continue
                    sure = _sure(finder, resized(frames[place : place + 1], ALONE), names)[0]
                    search = look_closer(search, int(looked[place]), float((sure * weight).max()))
                    missing -= self._found(sure)
            else:
                sure = _sure(finder, frames, names)
                search = learn(search, looked, (sure * weight).amax(1), window=self.window)
                missing -= self._found(sure.amax(0))
            looked = next_look(search, count, draw)
        return search

    def _look_at_grid(
        self, frames: Tensor, finder: Finder, names: list[str], weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The confidence of each of (g, H, W, 3) frames, and (g, Q) which names were seen in it."""
        columns = min(self.grid[1], len(frames))
        rows = -(-len(frames) // columns)
        sheet = contact_sheet(frames, columns, CELL)
        [found] = finder.find(sheet[None], names)
        best, counts = cells_of_boxes(
            found.boxes,
            found.label,
            found.confidence,
            weight,
            (rows, columns),
            (sheet.shape[0], sheet.shape[1]),
        )
        return best.flatten()[: len(frames)], counts[: len(frames)] > 0

    def _found(self, sure: Tensor) -> set[int]:
        """The names that are found, of the confidences (Q,)."""
        return set((sure > self.confidence).nonzero()[:, 0].tolist())


def _sure(finder: Finder, pictures: Tensor, names: list[str]) -> Tensor:
    """How sure a finder is of each name in each picture: (P, Q), 0 where it has no box."""
    sure = torch.zeros(len(pictures), len(names), dtype=torch.float64)
    for row, found in zip(sure, finder.find(pictures, names), strict=True):
        row.scatter_reduce_(0, found.label, found.confidence.double(), "amax")
    return sure
