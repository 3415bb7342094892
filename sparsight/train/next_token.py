"""Supervised fine-tuning: the next token of the answers in conversations about media.

The forward is inference's own: the family's views, tower, connector and packing, the plan's
systems, the splice. B rows, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.prompt import Prompt
from sparsight.core.slots import Request
from sparsight.core.tokens import Views
from sparsight.measure.stages import Stages
from sparsight.media import Access, Limits, load
from sparsight.train.answers import IGNORED, Lesson, check_template, lesson
from sparsight.train.augment import Augment, generator
from sparsight.train.conversations import Dialogue
from sparsight.train.objective import Objective
from sparsight.train.packing import join, packed_mask, rows_of, segments
from sparsight.train.parts import Parts
from sparsight.vlm.pipeline import VLM
from sparsight.vlm.prompt import Batch, pad, splice


@dataclass(frozen=True)
class Sample:
    """One conversation, ready for the tower: ids and labels of the unreduced prompt, media."""

    lesson: Lesson
    views: tuple[Views, ...]
    question: str


class NextToken(Objective):
    """Learns the answers of `Dialogue`s (see `Conversations`) and where they end.

    Args:
        frames: which frames of films, such as "uniform:8"; None is the family's default.
        augment: changes to pictures and films.
        plan: systems on the model, those before the LLM; the model's name is not used.
        limits, access: caps on media, and from where they may come.
    """

    packs = True

    def __init__(
        self,
        parts: Parts,
        *,
        frames: str | None = None,
        augment: Augment | None = None,
        plan: Plan | None = None,
        limits: Limits | None = None,
        access: Access | None = None,
    ) -> None:
        super().__init__(parts)
        self.frames = frames
        self.augment = augment
        self.vlm = VLM(parts.family, plan or Plan(), limits, access)
        for system in self.vlm.plan.systems:
            if hasattr(system, "edits"):
                raise UserError(
                    f"{system.system_name} works inside the LLM, which training does not support"
                )
        check_template(parts.family)

    # ---- from a conversation to a batch --------------------------------------------------------

    def prepare(self, item: Dialogue) -> Sample:
        """Open, decode and view the media; find the answers."""
        conversation, vlm = item.conversation, self.vlm
        vlm.check_text(conversation)
        clips = [load(one, limits=vlm.limits, policy=vlm.access) for one in conversation.media]
        vlm.check_support(clips)
        pictures = sum(clip.kind == "picture" for clip in clips)
        # The model is not asked anything here: several processes may prepare at once.
        request = Request(conversation.question, torch.zeros(0, 0), len(clips))
        views = []
        for place, clip in enumerate(clips):
            chosen, pixels = self._frames(clip, request, (item.epoch, item.index, place))
            views.append(vlm.views(clip, chosen, pixels, pictures))
        parts = [{"type": "image" if clip.kind == "picture" else "video"} for clip in clips]
        messages = [
            {
                "role": turn.role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else parts[part]
                    for part in turn.parts
                ],
            }
            for turn in conversation.turns
        ]
        made = lesson(vlm.family, messages, views)
        self._check_length(len(made.ids))
        return Sample(made, tuple(views), conversation.question)

    def _frames(
        self, clip: Clip, request: Request, key: tuple[int, ...]
    ) -> tuple[list[int], Tensor]:
        """The frames of a clip to look at and their pixels, augmented as `key` alone decides."""
        chosen = self.vlm.choose(clip, self.frames, request)
        if self.augment is None:
            return chosen, clip.frames(chosen)
        random = generator(self.seed, *key)
        if clip.kind == "film":
            chosen = self.augment.frames(chosen, len(clip), random)
        return chosen, self.augment.pixels(clip.frames(chosen), random)

    def _check_length(self, tokens: int) -> None:
        room = getattr(self.vlm.family.decoder.config, "max_position_embeddings", None)
        if room is not None and tokens > room:
            raise UserError(f"it has {tokens} tokens, and the model positions for {room}")
        if self.pack is not None and tokens > self.pack:
            raise UserError(f"it has {tokens} tokens, and a packed row holds {self.pack}")

    def collate(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """The samples as they are, and how many tokens they teach."""
        count = sum(label != IGNORED for one in samples for label in one.lesson.labels)
        return {"samples": list(samples), "count": count}

    def count(self, batch: dict[str, Any]) -> int:
        return batch["count"]

    # ---- the loss ------------------------------------------------------------------------------

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        logits, targets = self.predictions(batch["samples"])
        return {"next_token": F.cross_entropy(logits.float(), targets)}

    def predictions(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Logits (n, vocabulary) and targets (n,) of all learned tokens, in the rows' order."""
        family = self.vlm.family
        prompts = self._prompts(samples)
        labels = [
            torch.tensor(one.lesson.labels, device=prompt.embeds.device)[prompt.index]
            for one, prompt in zip(samples, prompts, strict=True)
        ]
        rows = [[place] for place in range(len(prompts))]
        if self.pack is not None:
            rows = rows_of([len(prompt) for prompt in prompts], self.pack)
        joined = [join([prompts[place] for place in row]) for row in rows]
        taught = [torch.cat([labels[place] for place in row]) for row in rows]
        filler = self.vlm.embed(torch.tensor([family.pad_token]))[0]
        batch = pad(joined, filler)
        mask = batch.mask
        if self.pack is not None:
            lengths = [[len(prompts[place]) for place in row] for row in rows]
            segment = segments(lengths, mask.device)
            decoder: Any = family.decoder
            mask = packed_mask(segment, decoder.config._attn_implementation, batch.embeds.dtype)
        hidden = self._hidden(batch, mask)
        longest = hidden.shape[1]
        target = torch.stack([F.pad(row, (longest - len(row), 0), value=IGNORED) for row in taught])
        target = F.pad(target[:, 1:], (0, 1), value=IGNORED)  # a token predicts the next
        learned = target != IGNORED
        head = family.model.get_output_embeddings()
        return head(hidden[learned]), target[learned]

    def _prompts(self, samples: Sequence[Sample]) -> list[Prompt]:
        vlm = self.vlm
        requests = [
            replace(vlm.request(one.question, len(one.views)), ids=one.lesson.ids)
            for one in samples
        ]
        # No clock on the device and no count of operations: both would make it wait.
        views = [one.views for one in samples]
        media, _ = vlm.tokens(views, requests, Stages("cpu"), costs=False)
        return [
            splice(vlm.family, one.lesson.ids, some, vlm.embed)
            for one, some in zip(samples, media, strict=True)
        ]

    def _hidden(self, batch: Batch, mask: Tensor) -> Tensor:
        """The decoder's last hidden states (B, L, D)."""
        with self.vlm.driving(batch):
            return self.vlm.family.decoder(
                inputs_embeds=batch.embeds,
                attention_mask=mask,
                position_ids=batch.positions,
                use_cache=False,
            ).last_hidden_state
