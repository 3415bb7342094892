"""A training in miniature: a small language model, random tokens, dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sparsight.train.objective import Objective
from sparsight.train.parts import Parts
from sparsight.train.recipe import Recipe, Stage

VOCABULARY = 24
LENGTH = 6


def build() -> Parts:
    """A Llama of a few thousand parameters, with dropout in its attention."""
    words = {chr(97 + place): place for place in range(VOCABULARY)}
    inner = Tokenizer(models.WordLevel(words, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="b", pad_token="c")
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, attention_dropout=0.2, tie_word_embeddings=True,
    )  # fmt: skip
    return Parts(LlamaForCausalLM(config), tokenizer)


class Letters(Dataset):
    """Item i is a row of random tokens that i alone decides; endless unless it has a count."""

    def __getitem__(self, index: int) -> Tensor:
        random = torch.Generator().manual_seed(index)
        return torch.randint(VOCABULARY, (LENGTH,), generator=random)


class CountedLetters(Letters):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


class Spell(Objective):
    """The next token, and an auxiliary read-out of the last hidden state: is it an early one?"""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.early = nn.Linear(parts.model.config.hidden_size, 2)
        self.dropout = nn.Dropout(0.2)

    def collate(self, samples: Sequence[Tensor]) -> dict[str, Any]:
        return {"ids": torch.stack(list(samples)), "note": "plain objects pass"}

    def forward(self, batch: dict[str, Any]) -> Any:
        ids = batch["ids"]
        out = self.parts.model(ids, output_hidden_states=True)
        logits = out.logits[:, :-1].flatten(0, 1).float()
        early = self.early(self.dropout(out.hidden_states[-1])).flatten(0, 1).float()
        losses = {
            "next": F.cross_entropy(logits, ids[:, 1:].flatten()),
            "early": 0.1 * F.cross_entropy(early, (ids < VOCABULARY // 2).long().flatten()),
        }
        right = (logits.argmax(-1) == ids[:, 1:].flatten()).sum()
        return losses, {"right": (right, float(ids[:, 1:].numel()))}


def calm_parts() -> Parts:
    parts = build()
    parts.model.config.attention_dropout = 0.0
    for layer in parts.model.model.layers:
        layer.self_attn.attention_dropout = 0.0
    return parts


class Calm(Spell):
    """Without dropout, and with rows that teach unlike many tokens."""

    def forward(self, batch: dict[str, Any]) -> Any:
        ids = batch["ids"]
        logits = self.parts.model(ids).logits[:, :-1]
        each = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        taught = (ids[:, 1:] > 5).flatten()
        return {"next": each[taught].mean()}

    def count(self, batch: dict[str, Any]) -> Tensor:
        return (batch["ids"][:, 1:] > 5).sum()


def stage(name: str = "spell", **options: Any) -> Stage:
    given: dict[str, Any] = {
        "data": Letters, "objective": Spell, "train": ("*",), "rates": {"*": 1e-2},
        "steps": 6, "batch": 4, "log_every": 1, "save_every": 2, "warmup": 0.0,
    }  # fmt: skip
    return Stage(name, **{**given, **options})


def recipe(*stages: Stage, **options: Any) -> Recipe:
    return Recipe("tiny", build, stages or (stage(),), **options)
