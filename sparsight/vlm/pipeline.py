"""The pipeline: media and a question in, an answer and what it cost out.

One request passes these rooms in order: `_see` (media, frames, views), `tokens` (tower, connector,
reduction), `_splice` (prompt), `_answer` (decoder).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.prompt import Prompt
from sparsight.core.registry import build
from sparsight.core.reply import Reply, Timing
from sparsight.core.slots import Need, Request, needs_of, slots_of
from sparsight.core.tokens import FeatureMap, Views, VisualTokens
from sparsight.llm.cache import kv_bytes
from sparsight.llm.deepstack import deepstack
from sparsight.llm.edits import Trace, edited
from sparsight.llm.gaps import gaps_allowed
from sparsight.llm.generation import Cancel, Speaker, StepTimes, Stream, stream
from sparsight.llm.layout import Layout
from sparsight.measure.flops import decoder_shape
from sparsight.measure.stages import Stages, synchronize
from sparsight.media import Access, Limits, load
from sparsight.media.sampling import parse_selection
from sparsight.vlm.cost import vision_flops
from sparsight.vlm.families.base import FILM, MIXED, PICTURE, PICTURES, Family
from sparsight.vlm.messages import Conversation, question_messages, read_messages
from sparsight.vlm.options import generation_options
from sparsight.vlm.prompt import Batch, Medium, pad, splice
from sparsight.vlm.report import Prepared, Seen, flops, token_map, usage, visual_per_layer


class VLM:
    """A loaded checkpoint with a plan on it. `using` gives another view on the same weights.

    Not for several threads at once: hooks of one request must not meet another's.
    """

    def __init__(
        self,
        family: Family,
        plan: Plan,
        limits: Limits | None = None,
        access: Access | None = None,
    ) -> None:
        self.family = family
        self.plan = plan
        self.limits = limits or Limits()
        self.access = access or Access()
        self._check_needs()

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
        return VLM(self.family, plan, self.limits, self.access)

    def _check_needs(self) -> None:
        supplied = self.family.supplies()
        for system in self.plan.systems:
            for need in needs_of(system):
                if need.name not in supplied:
                    raise UserError(
                        f"{system.system_name} needs {need.name.replace('_', ' ')}, which "
                        f"{self.family.label} cannot supply"
                    )
        inside = self._system("inside")
        if inside is not None:
            inside.edits(self._depth)  # refuses layers that the LLM does not have

    @property
    def _depth(self) -> int:
        """Layers of the LLM."""
        return len(self.family.decoder.layers)  # type: ignore[arg-type]

    def _system(self, slot: str) -> Any:
        """The system in a slot, or None."""
        return next((item for item in self.plan.systems if slot in slots_of(item)), None)

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

        Each reply's timing and key-value bytes are those of the whole batch.
        """
        stages, started = Stages(self.family.model.device), time.perf_counter()
        options = generation_options(max_tokens, generation)
        cancel = cancel or Cancel()
        with torch.inference_mode():
            prepared = self.prepare(conversations, frames=frames, stages=stages)
            streamer = None if on_text is None else Speaker(self.family.tokenizer, on_text)
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
        Everything before the decoder has run when this returns.
        """
        stages, started = Stages(self.family.model.device), time.perf_counter()
        options = generation_options(max_tokens, generation)
        stop = cancel or Cancel()
        with torch.inference_mode():
            prepared = self.prepare([messages], frames=frames, stages=stages)

        def run(streamer: BaseStreamer, criteria: StoppingCriteriaList) -> Reply:
            with torch.inference_mode():
                return self._answer(prepared, stages, started, options, stop, streamer)[0]

        return stream(run, self.family.tokenizer, stop)

    def encode(self, media: Any, *, frames: str | None = None) -> list[VisualTokens]:
        """The visual tokens of one medium or a list of media, after reduction.

        A reducer that looks at the question is given an empty one.
        """
        sources = media if isinstance(media, list) else [media]
        with torch.inference_mode():
            seen = self._see([sources], frames, Stages(self.family.model.device))[0]
            views = [item.views for item in seen]
            tokens, _ = self.tokens([views], [self.request("", len(views))])
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
        seen = self._see([item.media for item in read], frames, stages)
        requests = [
            self.request(item.question, len(media)) for item, media in zip(read, seen, strict=True)
        ]
        viewed = [[item.views for item in row] for row in seen]
        tokens, flops = self.tokens(viewed, requests, stages)
        prepared = []
        with stages("connect+reduce"):
            for item, views, media, cost in zip(read, seen, tokens, flops, strict=True):
                prompt = self._splice(item, views, media)
                prepared.append(Prepared(prompt, tuple(media), tuple(views), cost))
        return prepared

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

    def _see(
        self, requests: Sequence[Sequence[Any]], frames: str | None, stages: Stages
    ) -> list[list[Seen]]:
        """Open all media, choose and decode frames, make views."""
        with stages("fetch"):
            clips = [
                [load(source, limits=self.limits, policy=self.access) for source in media]
                for media in requests
            ]
        for media in clips:
            self.check_support(media)
        seen: list[list[Seen]] = []
        for media in clips:
            pictures = sum(clip.kind == "picture" for clip in media)
            row = []
            for clip in media:
                chosen = self.choose(clip, frames)
                with stages("decode"):
                    pixels = clip.frames(chosen)
                with stages("preprocess"):
                    row.append(
                        Seen(clip, tuple(chosen), self.views(clip, chosen, pixels, pictures))
                    )
            seen.append(row)
        return seen

    def check_support(self, media: Sequence[Clip]) -> None:
        """Refuse media that the family, or a system of the plan, does not take."""
        kinds = [clip.kind for clip in media]
        wanted = set()
        if "picture" in kinds:
            wanted.add(PICTURE if kinds.count("picture") == 1 else PICTURES)
        if "film" in kinds:
            wanted.add(FILM)
        if len(set(kinds)) == 2:
            wanted.add(MIXED)
        words = {
            PICTURE: "pictures",
            PICTURES: "several pictures in one prompt",
            FILM: "films",
            MIXED: "pictures and films in one prompt",
        }
        for need in sorted(wanted - self.family.supports):
            raise UserError(f"{self.family.label} does not take {words[need]}")
        for system in self.plan.systems:
            for_films = any(need.name == "film" for need in needs_of(system))
            if for_films and "film" not in kinds:
                raise UserError(f"{system.system_name} works on films, and none was given")

    def choose(self, clip: Clip, frames: str | None) -> list[int]:
        """The indices of the frames to look at."""
        if clip.kind == "picture":
            return [0]
        selector = self._system("select")
        if selector is not None:
            if frames is not None or self.plan.frames is not None:
                raise UserError(
                    f"{selector.system_name} chooses the frames itself: leave out the selection"
                )
            return selector.select(clip)
        text = frames or self.plan.frames or self.family.default_frames
        return parse_selection(text).indices(clip)

    def views(self, clip: Clip, chosen: list[int], pixels: Tensor, pictures: int) -> Views:
        """The views of a clip's chosen frames, `pixels` (T, H, W, 3) uint8, in a prompt that has
        so many pictures."""
        if clip.kind == "picture":
            return self.family.picture_views(pixels[0], alone=pictures == 1)
        times = [float(clip.timestamps[index]) for index in chosen]
        views = self.family.film_views(pixels, times, clip.duration)
        tiler = self._system("tile")
        if tiler is None:
            return views
        more = tiler.tile(self.family.square_pixels(views))
        return self.family.with_thumbnails(views, more)

    def request(self, question: str, media: int) -> Request:
        """What reducers are told of a question about so many media."""
        ids = torch.tensor(self.family.tokenizer(question)["input_ids"], dtype=torch.long)
        return Request(question, self.embed(ids), media)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (n,) -> embeddings (n, D) on the model's device."""
        table = self.family.model.get_input_embeddings()
        return table(ids.to(self.family.model.device))

    def tokens(
        self,
        views: Sequence[Sequence[Views]],
        requests: Sequence[Request],
        stages: Stages | None = None,
        *,
        costs: bool = True,
    ) -> tuple[list[list[Medium]], list[float]]:
        """Run the tower once a kind over the whole batch, then connect and reduce each medium.

        `views` holds the media of each request. Returns the packed media of each request and
        what they cost the vision side in operations (0 without `costs`).
        """
        stages = stages or Stages(self.family.model.device)
        flat = [item for row in views for item in row]
        maps: dict[int, FeatureMap] = {}
        merger = self._system("encode")
        merging = merger.merging if merger else None
        flops = [0.0] * len(flat)
        with stages("encode"):
            for kind in ("image", "video"):
                places = [i for i, item in enumerate(flat) if item.kind == kind]
                if not places:
                    continue
                needs = self._needs()
                inputs = [self._on_device(flat[i]) for i in places]
                made = self.family.encode(inputs, needs, merging)
                maps |= zip(places, made, strict=True)
        with stages("connect+reduce"):
            for kind in ("image", "video"):
                places = [i for i, item in enumerate(flat) if item.kind == kind]
                if not places:
                    continue
                projected = self.family.project([maps[i] for i in places])
                for place, item in zip(places, projected, strict=True):
                    maps[place] = item
                    if costs:
                        count = item.features[..., 0].numel()
                        flops[place] = vision_flops(self.family, [item.views], count, merging)
            in_order = iter(range(len(flat)))
            rows = [[next(in_order) for _ in row] for row in views]
            media = [
                [self._medium(maps[place], request) for place in row]
                for row, request in zip(rows, requests, strict=True)
            ]
        return media, [sum(flops[place] for place in row) for row in rows]

    def _needs(self) -> list[Need]:
        return [need for system in self.plan.systems for need in needs_of(system)]

    def _on_device(self, views: Views) -> Views:
        device = self.family.model.device
        inputs = {name: value.to(device) for name, value in views.inputs.items()}
        return dataclasses.replace(views, inputs=inputs)

    def _medium(self, features: FeatureMap, request: Request) -> Medium:
        """Pack one medium and reduce it."""
        connector = self._system("connect")
        if connector is None:
            full = self.family.pack(features)
            slots = len(full)  # `splice` holds it against the placeholders
        else:
            full = connector.connect(features)
            slots = self.family.slots(features)
        reducer = self._system("reduce")
        kept = full if reducer is None else reducer.reduce(full, request)
        if len(kept) == 0:
            raise UserError(f"{reducer.system_name} left no visual token: raise its budget")
        return Medium(features.views.kind, full, kept, slots)

    def _splice(
        self, conversation: Conversation, seen: Sequence[Seen], media: Sequence[Medium]
    ) -> Prompt:
        types = ["image" if item.clip.kind == "picture" else "video" for item in seen]
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
        views = [item.views for item in seen]
        ids = self.family.ids(self.family.expand(text, views))
        return splice(self.family, ids, media, self.embed)

    # ---- the decoder -------------------------------------------------------------------------

    def layout(self, batch: Batch) -> Layout:
        """The decoder's view of a batch, for systems inside the LLM."""
        return Layout.of(
            batch.mask,
            visual=batch.medium >= 0,
            prunable=batch.prunable,
            media=batch.medium,
            index=batch.index,
            group=batch.group,
        )

    def _answer(
        self,
        prepared: Sequence[Prepared],
        stages: Stages,
        started: float,
        options: Mapping[str, Any],
        cancel: Cancel,
        streamer: BaseStreamer | None,
    ) -> list[Reply]:
        family = self.family
        filler = self.embed(torch.tensor([family.pad_token]))[0]
        batch = pad([item.prompt for item in prepared], filler)
        self._check_length(int(batch.positions.max()) + 1, options["max_new_tokens"])
        device = family.model.device
        with self.driving(batch) as trace:
            torch.manual_seed(self.plan.seed)
            times = StepTimes(lambda: synchronize(device))
            out = family.model.generate(
                inputs_embeds=batch.embeds,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([times, cancel]),
                return_dict_in_generate=True,
                **options,
            )
        stages.add("prefill", times.first or 0.0)
        ended = time.perf_counter()
        timing = Timing(
            stages=dict(stages.seconds),
            steps=tuple(times.steps),
            first_token=(times.at[0] if times.at else ended) - started,
            total=ended - started,
        )
        bytes_held = kv_bytes(out.past_key_values)
        names = tuple(system.system_name for system in self.plan.systems)
        shape = decoder_shape(family.decoder.config)
        replies = []
        for row, item in enumerate(prepared):
            visual = visual_per_layer(item.prompt, self._depth, trace, row)
            answer, finish = self._finish(out.sequences[row].tolist(), cancel)
            replies.append(
                Reply(
                    text=family.tokenizer.decode(answer, skip_special_tokens=True).strip(),
                    tokens=tuple(answer),
                    finish=finish,
                    usage=usage(item, visual, len(answer)),
                    timing=timing,
                    kv_bytes=bytes_held,
                    flops=flops(item, shape, visual, len(answer)),
                    maps=tuple(
                        token_map(item, place, self._depth, trace, row)
                        for place in range(len(item.media))
                    ),
                    systems=names,
                )
            )
        return replies

    def _finish(self, tokens: list[int], cancel: Cancel) -> tuple[list[int], str]:
        """An answer up to its end token, and how it ended."""
        ends = self.family.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        for place, token in enumerate(tokens):
            if token in ends:
                return tokens[: place + 1], "stop"
        return tokens, "cancelled" if cancel.cancelled else "length"

    @contextmanager
    def driving(self, batch: Batch) -> Iterator[Trace | None]:
        """A context in which the decoder runs `batch` under the plan; yields its trace."""
        decoder = self.family.decoder
        inside = self._system("inside")
        with ExitStack() as stack:
            stack.enter_context(gaps_allowed(decoder))
            trace = None
            if inside is not None:
                edits = inside.edits(self._depth)
                trace = stack.enter_context(edited(decoder, edits, self.layout(batch)))
            if batch.extra:
                visual = batch.medium >= 0
                stack.enter_context(deepstack(decoder, list(batch.extra), visual))
            yield trace

    def _check_length(self, prompt: int, answer: int) -> None:
        room = getattr(self.family.decoder.config, "max_position_embeddings", None)
        if room is not None and prompt + answer > room:
            raise UserError(
                f"the prompt takes {prompt} positions and the answer up to {answer}, but the "
                f"model has {room}: use fewer frames, or lower max_tokens"
            )
