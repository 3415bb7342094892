"""The pipeline: media and a question in, an answer and what it cost out.

One request passes these rooms in order: `_see` (media, frames, views) and `tokens` (tower,
connector, reduction), both in `sparsight.vlm.seeing`; `_splice` (prompt); `_answer` (decoder), in
`sparsight.vlm.answering`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from sparsight.core.errors import UserError
from sparsight.core.meter import metering
from sparsight.core.plan import Plan
from sparsight.core.prompt import Prompt
from sparsight.core.registry import build
from sparsight.core.reply import Reply
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens
from sparsight.llm.generation import Cancel, Speaker, Stream, stream
from sparsight.measure.stages import Stages
from sparsight.vlm.answering import Answering
from sparsight.vlm.calling import Calls, reply_by_calls, together
from sparsight.vlm.encoded import Encoded
from sparsight.vlm.messages import Conversation, question_messages, read_messages
from sparsight.vlm.options import generation_options
from sparsight.vlm.prompt import Medium, splice
from sparsight.vlm.report import Prepared, Seen
from sparsight.vlm.viewer import ModelViewer


class VLM(Answering):
    """A loaded checkpoint with a plan on it. `using` gives another view on the same weights.

    Not for several threads at once: hooks of one request must not meet another's.
    """

    def __repr__(self) -> str:
        names = [system.system_name for system in self.plan.systems]
        return f"<VLM {self.plan.model} ({self.family.label}) {' + '.join(names) or 'plain'}>"

    # ---- plans -------------------------------------------------------------------------------

    def using(self, system: str, **knobs: Any) -> VLM:
        """This model with one more system.

        Raises `UserError` for an unknown system or knob, a value out of range, a slot that is
        taken, or a need that this family cannot meet: all before any work.
        """
        return self.planned(self.plan.using(build(system, knobs)))

    def planned(self, plan: Plan) -> VLM:
        """This model under another plan (the plan's own model name is not loaded)."""
        plan = dataclasses.replace(plan, model=self.plan.model)
        return VLM(self.family, plan, self.limits, self.access, self.encoded)

    def remembering(self, most: int | None) -> VLM:
        """This model, keeping what its tower makes of media in up to `most` bytes of main memory.

        All plans on what is returned share it: media that were encoded with the same signals are
        not encoded again. Replies tell the seconds that it took when it was done, so that plans
        can be compared. Plans that merge inside the tower encode anew. None keeps nothing.
        """
        encoded = None if most is None else Encoded(most)
        return VLM(self.family, self.plan, self.limits, self.access, encoded)

    # ---- asking ------------------------------------------------------------------------------

    def ask(self, media: Any, question: str, **options: Any) -> Reply:
        """Ask about one medium or a list of media.

        Args:
            media: anything `sparsight.media.load` takes, or a list of such.
            question: the question.
            options: as in `chat`.
        """
        return self.chat(question_messages(media, question), **options)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = 128,
        frames: str | None = None,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
        **generation: Any,
    ) -> Reply:
        """Answer OpenAI-style messages (see `read_messages`).

        Args:
            max_tokens: the longest answer, in tokens.
            frames: a frame selection for films such as "uniform:8", in place of the plan's.
            on_text: called with each piece of text as it comes.
            cancel: stops the generation within one token once it is set.
            generation: passed to transformers' generation (temperature, top_p, do_sample, ...);
                what is not given comes from the checkpoint's own settings. temperature=0 is
                greedy.

        Raises `UserError` for the user's mistakes, before the model runs where possible.
        """
        return self.chat_batch(
            [messages],
            max_tokens=max_tokens,
            frames=frames,
            on_text=on_text,
            cancel=cancel,
            **generation,
        )[0]

    def chat_batch(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        *,
        max_tokens: int = 128,
        frames: str | None = None,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
        **generation: Any,
    ) -> list[Reply]:
        """Answer several conversations in one left-padded batch; arguments as in `chat`.

        A system that answers by several calls takes one conversation after the other. Each reply's
        timing and key-value bytes are those of the whole batch.
        """
        options = generation_options(max_tokens, generation)
        stop = cancel or Cancel()
        streamer = None if on_text is None else Speaker(self.family.tokenizer, on_text)
        by_calls = self._system("pipeline")
        if by_calls is None:
            return self.reply(
                conversations, frames=frames, options=options, cancel=stop, streamer=streamer
            )
        replies = []
        for messages in conversations:
            calls = Calls(max_tokens, generation, stop, streamer)
            replies.append(reply_by_calls(self, by_calls, messages, frames, calls))
            streamer = None  # the text of the first is what is heard
        return together(replies)

    def reply(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        *,
        frames: str | None,
        options: Mapping[str, Any],
        cancel: Cancel,
        streamer: BaseStreamer | None,
    ) -> list[Reply]:
        """Answer conversations in one batch, each by one call of the decoder; `options` are those
        of `generation_options`."""
        stages, started = Stages(self.family.model.device), time.perf_counter()
        with torch.inference_mode(), metering(stages.own):
            prepared = self.prepare(conversations, frames=frames, stages=stages)
            return self._answer(prepared, stages, started, options, cancel, streamer)

    def generate(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = 128,
        frames: str | None = None,
        cancel: Cancel | None = None,
        **generation: Any,
    ) -> Stream[Reply]:
        """Answer messages as a stream; arguments as in `chat`.

        Iterate for pieces (`piece.text`, `piece.tokens`, `piece.seconds`), then read `.result`,
        the reply. Closing the stream or `cancel.cancel()` stops the generation within one token.
        Everything before the decoder has run when this returns, but for a system that answers by
        several calls.
        """
        stages, started = Stages(self.family.model.device), time.perf_counter()
        options = generation_options(max_tokens, generation)
        stop = cancel or Cancel()
        by_calls = self._system("pipeline")
        if by_calls is not None:

            def call(streamer: BaseStreamer, criteria: StoppingCriteriaList) -> Reply:
                calls = Calls(max_tokens, generation, stop, streamer)
                return reply_by_calls(self, by_calls, messages, frames, calls)

            return stream(call, self.family.tokenizer, stop)
        with torch.inference_mode(), metering(stages.own):
            prepared = self.prepare([messages], frames=frames, stages=stages)

        def run(streamer: BaseStreamer, criteria: StoppingCriteriaList) -> Reply:
            with torch.inference_mode(), metering(stages.own):
                return self._answer(prepared, stages, started, options, stop, streamer)[0]

        return stream(run, self.family.tokenizer, stop)

    def encode(self, media: Any, *, frames: str | None = None) -> list[VisualTokens]:
        """The visual tokens of one medium or a list of media, after reduction.

        A reducer that looks at the question is given an empty one.
        """
        sources = media if isinstance(media, list) else [media]
        with torch.inference_mode():
            request = self.request("", len(sources))
            [seen] = self._see([sources], [request], frames, Stages(self.family.model.device))
            tokens, _ = self.tokens([[item.views for item in seen]], [request])
        return [item.kept for item in tokens[0]]

    # ---- the rooms ---------------------------------------------------------------------------

    def prepare(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        *,
        frames: str | None = None,
        stages: Stages | None = None,
    ) -> list[Prepared]:
        """Everything before the decoder: messages -> spliced prompts."""
        stages = stages or Stages(self.family.model.device)
        read = [read_messages(messages) for messages in conversations]
        for conversation in read:
            self.check_text(conversation)
        requests = [self.request(item.question, len(item.media)) for item in read]
        seen = self._see([item.media for item in read], requests, frames, stages)
        with stages("preprocess"):
            requests = [
                dataclasses.replace(request, ids=self._ids(item, views))
                for item, views, request in zip(read, seen, requests, strict=True)
            ]
        viewed = [[item.views for item in row] for row in seen]
        tokens, flops = self.tokens(viewed, requests, stages)
        prepared = []
        with stages("connect+reduce"):
            for views, media, cost, request in zip(seen, tokens, flops, requests, strict=True):
                assert request.ids is not None
                prompt, second = self._splice(request.ids, media)
                asked = request.viewer.flops if isinstance(request.viewer, ModelViewer) else 0.0
                prepared.append(Prepared(prompt, tuple(media), tuple(views), cost, second, asked))
        return prepared

    def request(self, question: str, media: int) -> Request:
        """What systems are told of a question about so many media."""
        ids = torch.tensor(self.family.tokenizer(question)["input_ids"], dtype=torch.long)
        family, viewer = self.family, ModelViewer(self)
        return Request(question, self.embed(ids), media, viewer, family.frames, family.together)

    def check_text(self, conversation: Conversation) -> None:
        """A placeholder in the user's text would be taken for a picture."""
        marks = self.family.marks()
        for turn in conversation.turns:
            for part in turn.parts:
                for mark in marks:
                    if isinstance(part, str) and mark in part:
                        raise UserError(
                            f"the text holds {mark!r}, which stands for a medium: leave it out"
                        )

    def _ids(self, conversation: Conversation, seen: Sequence[Seen]) -> list[int]:
        """The unreduced prompt, every placeholder written out."""
        types = ["image" if item.clip.kind == "picture" else "video" for item in seen]
        conversation = conversation.telling([item.told for item in seen])
        messages = [
            {
                "role": turn.role,
                "content": [
                    {"type": "text", "text": part}
                    if isinstance(part, str)
                    else {"type": types[part]}
                    for part in turn.parts
                ],
            }
            for turn in conversation.turns
        ]
        text = self.family.prompt_text(messages)
        return self.family.ids(self.family.expand(text, [item.views for item in seen]))

    def _splice(self, ids: Sequence[int], media: Sequence[Medium]) -> tuple[Prompt, Prompt | None]:
        """The prompt, and the second one where a system decodes with two."""
        prompt = splice(self.family, ids, media, self.embed)
        others = [
            dataclasses.replace(item, kept=item.second) for item in media if item.second is not None
        ]
        return prompt, splice(self.family, ids, others, self.embed) if others else None
