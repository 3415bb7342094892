"""The model as a witness: what systems may ask while they choose frames or reduce tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.prompt import Prompt
from sparsight.core.slots import Request
from sparsight.measure.flops import decoder_shape, prefill_flops
from sparsight.vlm.load import load_family
from sparsight.vlm.prompt import Batch, pad, splice

FRAMES = 32  # looked at by one call of the tower
PROMPTS = 64  # at most in one call of the LLM
TOKENS = 16384  # likewise


class ModelViewer:
    """A `sparsight.core.slots.Viewer`: the model of a `VLM` without the systems on it."""

    def __init__(self, planned: Any, known: dict[str, ModelViewer] | None = None) -> None:
        self._planned = planned
        self._flops = 0.0
        self._known = {"self": self, planned.plan.model: self} if known is None else known

    @cached_property
    def vlm(self) -> Any:
        """The plain model. Made when it is first asked: most requests ask nothing. It remembers
        nothing, since what asking takes is measured by the clock."""
        return self._planned.planned(Plan(seed=self._planned.plan.seed)).remembering(None)

    @property
    def flops(self) -> float:
        """Operations of everything it was asked, and of the others it named, by formula."""
        return sum(viewer._flops for viewer in set(self._known.values()))

    def other(self, model: str) -> ModelViewer:
        if model not in self._known:
            family = self.vlm.family
            # Kept beside the checkpoint that named it, so that it is read from the disk once.
            loaded = family.__dict__.setdefault("_others", {})
            if model not in loaded:
                loaded[model] = load_family(model, device=family.model.device)
            vlm = type(self.vlm)(loaded[model], Plan(model, seed=self.vlm.plan.seed))
            self._known[model] = ModelViewer(vlm, self._known)
        return self._known[model]

    def answer(self, text: str, frames: Tensor | None = None, *, max_tokens: int = 128) -> str:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if frames is not None:
            film = Clip.from_frames(frames, fps=1.0, origin="the frames that are asked about")
            content.insert(0, {"type": "video", "video": film})
        messages = [{"role": "user", "content": content}]
        chosen = None if frames is None else "all"
        reply = self.vlm.chat(messages, max_tokens=max_tokens, frames=chosen, temperature=0)
        self._flops += reply.flops.total
        return reply.text

    @torch.inference_mode()
    def probability(self, frames: Tensor, texts: Sequence[str], option: str = "A") -> Tensor:
        openings = opening_tokens(self.vlm.family.tokenizer, option)
        sure = torch.zeros(len(frames), len(texts), dtype=torch.float64)
        for start in range(0, len(frames), FRAMES):
            part = sure[start : start + FRAMES]
            for place, prompts in enumerate(self._prompts(frames[start : start + FRAMES], texts)):
                found = [self._first_tokens(batch)[:, openings] for batch in self._batches(prompts)]
                part[:, place] = torch.cat(found).double().sum(1).cpu()
        return sure

    def _prompts(self, frames: Tensor, texts: Sequence[str]) -> list[list[Prompt]]:
        """The prompts of each of Q texts with T frames: of one length, so nothing is padded.

        A frame is shown as a film of its own: one view in every family, where a picture may be
        many tiles.
        """
        vlm, family = self.vlm, self.vlm.family
        views = [family.film_views(frame[None], [0.0], 1.0) for frame in frames]
        nothing = Request("", torch.zeros(0, 0))
        media, costs = vlm.tokens([[item] for item in views], [nothing] * len(views))
        self._flops += sum(costs)
        ids = []
        for text in texts:
            content = [{"type": "video"}, {"type": "text", "text": text}]
            prompt = family.prompt_text([{"role": "user", "content": content}])
            ids.append(family.ids(family.expand(prompt, views[:1])))  # frames are all of one size
        return [[splice(family, one, medium, vlm.embed) for medium in media] for one in ids]

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[Batch]:
        vlm, family = self.vlm, self.vlm.family
        filler = vlm.embed(torch.tensor([family.pad_token]))[0]
        longest = max(len(prompt) for prompt in prompts)
        count = max(1, min(PROMPTS, TOKENS // longest))
        shape = decoder_shape(family.decoder.config)
        for start in range(0, len(prompts), count):
            some = prompts[start : start + count]
            self._flops += sum(prefill_flops(shape, [len(one)] * shape.layers) for one in some)
            yield pad(some, filler)

    def _first_tokens(self, batch: Batch) -> Tensor:
        """The probability of each token to come first in the answer: (B, vocabulary) float32."""
        family = self.vlm.family
        with self.vlm.driving(batch):
            hidden = family.decoder(
                inputs_embeds=batch.embeds,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                use_cache=False,
            ).last_hidden_state[:, -1]
        return family.model.get_output_embeddings()(hidden).float().softmax(-1)


def opening_tokens(tokenizer: Any, option: str) -> list[int]:
    """The tokens that an answer which is this option begins with.

    Its token with and without a space before it and with a capital: which one a model learned
    hangs on how its chat template ends. A word that is no token begins with its first piece.
    Raises `UserError` where the tokenizer cannot write it.
    """
    words = dict.fromkeys([option, option.capitalize()])
    texts = [text for word in words for text in (word, f" {word}")]
    cut = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    unknown = tokenizer.unk_token_id
    found = {ids[0] for ids in cut if len(ids) == 1 and ids[0] != unknown}
    if not found:
        pieces = {ids[0]: tokenizer.decode(ids[:1]).strip() for ids in cut if ids[0] != unknown}
        found = {token for token, text in pieces.items() if text and option.startswith(text)}
    if not found:
        raise UserError(f"the model's tokenizer cannot write {option!r}")
    return sorted(found)
