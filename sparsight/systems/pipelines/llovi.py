"""LLoVi: caption short clips of a film, then let a language model answer from the captions.

Two questions are asked apart: what is to be seen in a second or so, which a captioner tells, and
what that means over the whole film, which a language model without eyes tells. The best prompt has
two rounds: the captions are summed up with the question in view, and the answer is given from the
summary alone. arXiv:2312.17235. The few-shot prompt is left out, for want of its examples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.core.slots import Caller, Request
from sparsight.llm.kept import KeptTexts
from sparsight.llm.notes import FIRST, Asking, Notes
from sparsight.llm.replies import split_options
from sparsight.media.sampling import at

PROMPTS = ("standard", "cot", "plan", "summary", "summary-blind", "summary-options", "ground")
#: What the summary of a prompt is written in view of.
_KNOWING = {"summary": "question", "summary-blind": "nothing", "summary-options": "options"}
_CAPTION = 48  # tokens of a caption, at most
_DESCRIBE = "Describe in one sentence what happens here."


@system(
    "llovi",
    title="caption short clips, then let a language model answer from the captions",
    paper="arXiv:2312.17235",
    official=(
        "EgoSchema: 50.3 % with GPT-3.5, 18.1 points above the best before it",
        "its 500 public questions: standard 51.2 %, step by step 55.2 %, with a summary 57.4 %",
        "NExT-GQA: 24.3 % right and grounded",
    ),
)
@dataclass(frozen=True)
class LLoVi:
    """A film is cut into clips of 1 / `fps` seconds; of every `caption_every`-th, `clip_frames`
    frames are shown to the captioner. A picture is one clip. `prompt` is how the language model is
    asked: at once ("standard"); after a round of thinking step by step ("cot") or of three smaller
    questions ("plan"); from a summary of the captions that was written with the question in view
    but without its options ("summary"), without the question ("summary-blind"), or with both
    ("summary-options"); or which clips show the answer, told in seconds ("ground").

    Captions are greedy and made once: they stay with the checkpoint, or in the file `captions`
    across runs. Where they are too many for the language model, every second, third and so on is
    used, and the log says so. Lettered options in a question are answered by letter."""

    fps: float = knob(1.0, "clips of a second of film", low=0.01)
    clip_frames: int = knob(1, "frames of a clip that the captioner sees", low=1)
    caption_every: int = knob(1, "every how many-th clip is captioned", low=1)
    prompt: Literal[
        "standard", "cot", "plan", "summary", "summary-blind", "summary-options", "ground"
    ] = knob("summary", "how the language model is asked", choices=PROMPTS)
    words: int = knob(500, "words of a summary", low=1)
    temperature: float = knob(1.0, "of the summary; the answer is greedy", low=0)
    captioner: str = knob("self", "self, or another checkpoint that sees")
    llm: str = knob("self", "self, another checkpoint, or the URL of an OpenAI-compatible endpoint")
    llm_name: str = knob("", "what the model is called at the endpoint")
    key: str = knob("OPENAI_API_KEY", "the environment variable that holds the endpoint's key")
    captions: str = knob("", "a file that captions are kept in across runs, JSON lines")
    batch: int = knob(8, "clips captioned together", low=1)

    def check(self) -> None:
        if self._is_remote and not self.llm_name:
            raise UserError("llovi: say what the model is called at the endpoint, with llm_name=")

    @property
    def _is_remote(self) -> bool:
        return self.llm.startswith(("http://", "https://"))

    def select(self, clip: Clip, request: Request) -> list[int]:
        """All frames that the captioner is shown."""
        return sorted({frame for _, frames in self._clips(clip) for frame in frames})

    def answer(
        self, media: Sequence[Clip], turns: Sequence[Mapping[str, str]], caller: Caller
    ) -> str:
        question, options = split_options(turns[-1]["content"])
        captioner = caller.other(self.captioner)
        lines = [self._captions(medium, captioner) for medium in media]
        notes = Notes(media, lines, self.caption_every / self.fps)
        if self._is_remote:
            llm = caller.endpoint(self.llm, self.llm_name, self.key)
        else:
            llm = caller.other(self.llm)
        asking = Asking(llm, notes, question, options, turns[:-1])
        if self.prompt == "standard" or not media:
            return asking.directly()
        if self.prompt in FIRST:
            return asking.after(FIRST[self.prompt])
        if self.prompt in _KNOWING:
            return asking.summed_up(_KNOWING[self.prompt], self.words, self.temperature)
        seconds = [(first / self.fps, last / self.fps) for first, last in asking.intervals()]
        return ", ".join(f"{start:.1f} to {end:.1f}" for start, end in seconds)

    # ---- the captions ------------------------------------------------------------------------

    def _clips(self, medium: Clip) -> Iterator[tuple[int, list[int]]]:
        """The number of each clip that is captioned, and its frames."""
        if medium.kind == "picture":
            yield 0, [0]
            return
        start = float(medium.timestamps[0])
        count = max(1, math.ceil(round(medium.duration * self.fps, 6)))
        for number in range(0, count, self.caption_every):
            parts = [number + part / self.clip_frames for part in range(self.clip_frames)]
            yield number, at(medium.timestamps, [start + part / self.fps for part in parts])

    def _captions(self, medium: Clip, captioner: Caller) -> list[tuple[int, str]]:
        """The captions of a medium with their numbers; those not known are made batch by batch."""
        kept = captioner.kept if self._file is None else self._file
        clips = list(self._clips(medium))
        found = []
        for first in range(0, len(clips), self.batch):
            numbers, frames = zip(*clips[first : first + self.batch], strict=True)
            pixels = medium.frames([frame for part in frames for frame in part])
            shown = pixels.split([len(part) for part in frames])
            keys = [_key(captioner.name, part) for part in shown]
            new = {key: part for key, part in zip(keys, shown, strict=True) if key not in kept}
            if new:
                asked = [self._show(medium, part) for part in new.values()]
                texts = captioner.say_all(asked, max_tokens=_CAPTION)
                kept.update(zip(new, texts, strict=True))
            found += [(number, kept[key]) for number, key in zip(numbers, keys, strict=True)]
        return found

    @cached_property
    def _file(self) -> MutableMapping[str, str] | None:
        return KeptTexts(self.captions) if self.captions else None

    def _show(self, medium: Clip, frames: Tensor) -> list[dict[str, Any]]:
        """Messages that ask for a caption of frames (n, H, W, 3)."""
        if medium.kind == "picture":
            part = {"type": "image", "image": Clip.from_picture(frames[0], origin=medium.origin)}
        else:
            film = Clip.from_frames(frames, fps=self.fps * self.clip_frames, origin=medium.origin)
            part = {"type": "video", "video": film}
        return [{"role": "user", "content": [part, {"type": "text", "text": _DESCRIBE}]}]


def _key(captioner: str, frames: Tensor) -> str:
    """What a caption follows from: the model, the request, and what is shown."""
    head = f"{captioner}\n{_DESCRIBE}\n{_CAPTION}\n{tuple(frames.shape)}\n"
    digest = hashlib.sha256(head.encode())
    digest.update(frames.contiguous().cpu().numpy().data)
    return digest.hexdigest()
