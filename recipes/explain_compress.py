"""The predictor of "explain-compress" for an embedded model, from explanations of its own answers.

    python recipes/explain_compress.py --model mini --count 1000
    sparsight train recipes/explain_compress.py --out out/explain-compress

The first line asks the model about scenes of the world, explains the answers that are right
(arXiv:2506.01097: gradient-weighted rollout of attention) and writes what the question paid each
visual token in the first layer beside how relevant it turned out to be. The second fits the network
to these pairs; the model itself is not needed any more. The result is
out/explain-compress/model/predictor.safetensors, to be given as `predictor`. Films have pairs and a
predictor of their own: --frames 8 above, recipes/explain_compress_films.py below.

The learning rate, the number of steps and the kernel are not published; 128 pairs a step, half of
the relevance masked and the Kullback-Leibler divergence are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from sparsight.core.errors import UserError
from sparsight.modules.relevance import RelevancePredictor
from sparsight.ops.relevance import relevance_target
from sparsight.train.objective import Objective
from sparsight.train.parts import Parts
from sparsight.train.recipe import Recipe, Stage
from sparsight.world.exam import Item, exam
from sparsight.world.examine import clip_of
from sparsight.world.tasks.question import right

if TYPE_CHECKING:
    from sparsight.vlm.pipeline import VLM

FOLDER = Path("out/explain-compress")
#: Tasks whose answers are short and lie in a part of the picture.
PICTURES = ("color", "shape", "exists", "where", "read", "count", "region")
FILMS = ("color", "shape", "exists", "where", "move", "order", "state")


# ---- pairs -------------------------------------------------------------------------------------


def pairs_file(frames: int) -> Path:
    return FOLDER / ("pairs.safetensors" if frames == 1 else "pairs-of-films.safetensors")


def collect(vlm: VLM, items: Iterator[Item], count: int, side: int = 112) -> dict[str, Tensor]:
    """`count` pairs of questions that the model answers rightly: "attention" and "relevance",
    both (count, N). All scenes must give as many tokens.

    Raises `UserError` where the model is right too seldom to go on.
    """
    from sparsight.vlm.relevance import explain

    found: list[Any] = []
    for tried, item in enumerate(items, 1):
        words = {"type": "text", "text": item.question.text}
        clip = clip_of(item.scene, side)
        messages = [{"role": "user", "content": [{"type": "image", "image": clip}, words]}]
        reply = vlm.chat(messages, frames="all", max_tokens=16, temperature=0)
        if right(item.question, reply.text):
            found += explain(vlm, messages, reply.tokens, frames="all")
        if len(found) >= count:
            break
        if tried == 200 and len(found) < 10:
            raise UserError(
                f"the model answers {len(found)} of {tried} questions rightly: train it first"
            )
    return {
        name: torch.stack([getattr(pair, name) for pair in found[:count]])
        for name in ("attention", "relevance")
    }


def questions(frames: int, seed: int = 0) -> Iterator[Item]:
    """Questions about training scenes, the tasks in turn."""
    tasks = PICTURES if frames == 1 else FILMS
    streams = [exam(task, "train", 1_000_000, frames=frames, seed=seed) for task in tasks]
    return (next(stream) for stream in cycle(streams))


class Pairs(Dataset):
    """Pairs from a file: attention (N,) and the target (N,) made of relevance."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path} is missing: make it by python recipes/explain_compress.py")
        held = load_file(path)
        self.attention, self.target = held["attention"], relevance_target(held["relevance"])

    def __len__(self) -> int:
        return len(self.attention)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.attention[index], self.target[index]


# ---- training ----------------------------------------------------------------------------------


class PredictorParts(Parts):
    """The predictor in the place of a model: nothing but one file is written."""

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.model.to(dtype).save(folder / "predictor.safetensors")


def predictor() -> Parts:
    return PredictorParts(RelevancePredictor(), None)


class Match(Objective):
    """The divergence of the predicted distribution from the target, in float32.

    "found" is the share of the better half's relevance that the predicted half holds.
    """

    def collate(self, samples: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        attention, target = zip(*samples, strict=True)
        return {"attention": torch.stack(attention), "target": torch.stack(target)}

    def forward(self, batch: Mapping[str, Tensor]) -> Any:
        target = batch["target"]
        logits = self.parts.model(batch["attention"])
        divergence = target.xlogy(target) - target * logits.float().log_softmax(-1)
        best = logits.topk(target.shape[-1] - target.shape[-1] // 2).indices
        found = target.gather(-1, best).sum(-1).mean()
        return {"divergence": divergence.sum(-1).mean()}, {"found": found.detach()}


def predictor_recipe(name: str, frames: int) -> Recipe:
    stage = Stage(
        "predict",
        data=partial(Pairs, pairs_file(frames)),
        objective=Match,
        train=("*",),
        rates={"*": 1e-3},
        steps=400,
        batch=128,
        save_every=200,
        log_every=20,
    )
    return Recipe(name, predictor, (stage,), dtype="float32")


def recipe() -> Recipe:
    return predictor_recipe("explain-compress", frames=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Explain answers, for a predictor to learn from.")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--count", type=int, default=1000, help="pairs")
    parser.add_argument("--frames", type=int, default=1, help="1 for pictures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import sparsight

    vlm = sparsight.load(options.model, dtype="float32")
    path = pairs_file(options.frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(collect(vlm, questions(options.frames, options.seed), options.count), path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
