"""Answering by several calls: what a system of the slot "pipeline" asks, and what it all costs."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers.generation.streamers import BaseStreamer

from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.reply import Flops, Reply, Timing, Usage
from sparsight.llm.generation import Cancel
from sparsight.llm.kept import KeptTexts
from sparsight.measure.stages import Stages
from sparsight.media import load
from sparsight.vlm.families import model_types
from sparsight.vlm.load import find_model, load_family
from sparsight.vlm.messages import read_messages
from sparsight.vlm.options import generation_options
from sparsight.vlm.text_model import TextModel, load_text_model

if TYPE_CHECKING:
    from sparsight.llm.endpoint import Endpoint

Messages = Sequence[Mapping[str, Any]]

#: Sampling that an endpoint may be asked for; the rest is transformers' own.
_OF_ENDPOINTS = ("temperature", "top_p")


class StoppedError(Exception):
    """The request was cancelled before its last call."""


@dataclass
class Calls:
    """The request that calls are a part of, and what they were so far.

    max_tokens  of the last call
    sampling    that the request names, for the last call
    replies     those of each call: one, or the rows of its batch
    first       seconds from the start to the first token of the last call
    streamed    whether the last call's text went to the streamer
    """

    max_tokens: int
    sampling: Mapping[str, Any]
    cancel: Cancel
    streamer: BaseStreamer | None
    started: float = field(default_factory=time.perf_counter)
    replies: list[list[Reply]] = field(default_factory=list)
    first: float | None = None
    streamed: bool = False

    def settings(
        self, max_tokens: int, temperature: float, last: bool
    ) -> tuple[int, dict[str, Any]]:
        """The longest answer and the sampling of a call. Raises `StoppedError` once cancelled."""
        if self.cancel.cancelled:
            raise StoppedError
        if not last:
            return max_tokens, {"temperature": temperature}
        own = {} if "do_sample" in self.sampling else {"temperature": temperature}
        return self.max_tokens, {**own, **self.sampling}

    def note(self, replies: Sequence[Reply], last: bool, asked: float) -> list[str]:
        """Add what a call gave that was `asked` at that time; its texts."""
        self.replies.append([*replies])
        if last:
            self.first = asked - self.started + replies[0].timing.first_token
        elif any(reply.finish == "cancelled" for reply in replies):
            raise StoppedError
        return [reply.text for reply in replies]


class ModelCaller:
    """A `sparsight.core.slots.Caller`: a `VLM` whose plan has no pipeline."""

    def __init__(self, vlm: Any, calls: Calls, home: ModelCaller | None = None) -> None:
        self._vlm, self._calls, self._home = vlm, calls, home or self
        # Nothing is reduced where nothing is shown, and systems for films refuse to.
        self._bare = vlm.planned(Plan(seed=vlm.plan.seed))

    @property
    def name(self) -> str:
        return f"{self._vlm.plan.to_yaml()}{self._vlm.family.model.dtype}"

    @property
    def kept(self) -> MutableMapping[str, str]:
        return self._home._beside("_kept_texts", KeptTexts)

    def say(
        self, messages: Messages, *, max_tokens: int, temperature: float = 0.0, last: bool = False
    ) -> str:
        longest, sampling = self._calls.settings(max_tokens, temperature, last)
        self._calls.streamed = last
        streamer = self._calls.streamer if last else None
        return self._replies([messages], longest, sampling, last, streamer)[0]

    def say_all(self, conversations: Sequence[Messages], *, max_tokens: int) -> list[str]:
        longest, sampling = self._calls.settings(max_tokens, 0.0, last=False)
        return self._replies(conversations, longest, sampling, False, None)

    def _replies(
        self,
        conversations: Sequence[Messages],
        longest: int,
        sampling: Mapping[str, Any],
        last: bool,
        streamer: BaseStreamer | None,
    ) -> list[str]:
        shown = any(read_messages(messages).media for messages in conversations)
        asked = time.perf_counter()
        replies = (self._vlm if shown else self._bare).reply(
            conversations,
            frames="all" if shown else None,  # the system has chosen what is shown
            options=generation_options(longest, sampling),
            cancel=self._calls.cancel,
            streamer=streamer,
        )
        return self._calls.note(replies, last, asked)

    def fits(self, messages: Messages, *, max_tokens: int = 0, last: bool = False) -> bool:
        longest = self._calls.max_tokens if last else max_tokens
        with torch.inference_mode():
            [prepared] = self._bare.prepare([messages])
        return self._bare.fits(len(prepared.prompt) + longest)

    def other(self, model: str) -> Any:
        home = self._home
        if model in ("self", home._vlm.plan.model):
            return home
        family = home._vlm.family
        if _sees(model):
            found = home._beside("_others", dict)
            if model not in found:
                found[model] = load_family(model, device=family.model.device)
            plan = Plan(model, seed=home._vlm.plan.seed)
            vlm = type(home._vlm)(found[model], plan, home._vlm.limits, home._vlm.access)
            return ModelCaller(vlm, self._calls, home)
        found = home._beside("_text_models", dict)
        if model not in found:
            found[model] = load_text_model(model, family.model.device)
        return TextCaller(model, found[model], self._calls, home)

    def endpoint(self, url: str, model: str, key: str) -> EndpointCaller:
        from sparsight.llm.endpoint import Endpoint  # httpx takes a while to import

        return EndpointCaller(Endpoint(url, model, key), self._calls, self._home)

    def _beside(self, name: str, make: Any) -> Any:
        """Something that is kept beside the checkpoint, as long as that is loaded."""
        return self._vlm.family.__dict__.setdefault(name, make())


class _Reader(ABC):
    """A `sparsight.core.slots.Caller` that is shown text alone, and one conversation at a time."""

    name: str

    def __init__(self, calls: Calls, home: ModelCaller) -> None:
        self._calls, self._home = calls, home

    @property
    def kept(self) -> MutableMapping[str, str]:
        return self._home.kept

    def other(self, model: str) -> Any:
        return self._home.other(model)

    def endpoint(self, url: str, model: str, key: str) -> EndpointCaller:
        return self._home.endpoint(url, model, key)

    def say(
        self, messages: Messages, *, max_tokens: int, temperature: float = 0.0, last: bool = False
    ) -> str:
        longest, sampling = self._calls.settings(max_tokens, temperature, last)
        if read_messages(messages).media:
            raise UserError(f"{self.name} reads text alone: it cannot be shown a picture or film")
        asked = time.perf_counter()
        return self._calls.note([self._reply(messages, longest, sampling)], last, asked)[0]

    def say_all(self, conversations: Sequence[Messages], *, max_tokens: int) -> list[str]:
        return [self.say(messages, max_tokens=max_tokens) for messages in conversations]

    @abstractmethod
    def _reply(self, messages: Messages, longest: int, sampling: Mapping[str, Any]) -> Reply:
        """What the model says, in at most `longest` tokens."""


class TextCaller(_Reader):
    """A text model on this machine."""

    def __init__(self, name: str, text: TextModel, calls: Calls, home: ModelCaller) -> None:
        super().__init__(calls, home)
        self.name, self._text = name, text

    def _reply(self, messages: Messages, longest: int, sampling: Mapping[str, Any]) -> Reply:
        torch.manual_seed(self._home._vlm.plan.seed)
        return self._text.chat(messages, generation_options(longest, sampling), self._calls.cancel)

    def fits(self, messages: Messages, *, max_tokens: int = 0, last: bool = False) -> bool:
        longest = self._calls.max_tokens if last else max_tokens
        room = self._text.room
        return room is None or self._text.ids(messages).shape[1] + longest <= room


class EndpointCaller(_Reader):
    """A model behind a URL."""

    def __init__(self, endpoint: Endpoint, calls: Calls, home: ModelCaller) -> None:
        super().__init__(calls, home)
        self.name, self._endpoint = f"{endpoint.model} at {endpoint.url}", endpoint

    def _reply(self, messages: Messages, longest: int, sampling: Mapping[str, Any]) -> Reply:
        given = {name: value for name, value in sampling.items() if value is not None}
        for name in given:
            if name not in _OF_ENDPOINTS:
                raise UserError(f"an endpoint cannot be asked for {name}: leave it out")
        return self._endpoint.chat(messages, max_tokens=longest, **given)

    def fits(self, messages: Messages, *, max_tokens: int = 0, last: bool = False) -> bool:
        return True


def _sees(model: str) -> bool:
    """Whether a checkpoint is of a family that sees."""
    try:
        config = json.loads((find_model(model) / "config.json").read_text())
        return config.get("model_type") in model_types()
    except (OSError, ValueError, AttributeError):
        return True  # loading it says what is wrong


# ---- the reply ---------------------------------------------------------------------------------


def reply_by_calls(
    vlm: Any, system: Any, messages: Messages, frames: str | None, calls: Calls
) -> Reply:
    """Let a system answer messages by calls of the model of a `VLM`, and of others.

    Tokens, seconds of stages, operations are the sums over the calls; the total is what really
    went by, and bytes of keys and values are those of the largest call, for calls do not hold them
    at the same time. There are no token maps: each call has its own.
    """
    if frames is not None or vlm.plan.frames is not None:
        raise UserError(f"{system.system_name} chooses the frames itself: leave out the selection")
    conversation = read_messages(messages)
    vlm.check_text(conversation)
    stages = Stages(vlm.family.model.device)
    with stages("fetch"):
        clips = [load(item, limits=vlm.limits, policy=vlm.access) for item in conversation.media]
    vlm.check_support(clips)
    turns = [
        {"role": turn.role, "content": "\n".join(p for p in turn.parts if isinstance(p, str))}
        for turn in conversation.turns
    ]
    others = tuple(item for item in vlm.plan.systems if item is not system)
    # Remembers nothing, since what the calls take is measured by the clock.
    plain = vlm.planned(replace(vlm.plan, systems=others)).remembering(None)
    caller = ModelCaller(plain, calls)
    try:
        text = system.answer(clips, turns, caller)
    except StoppedError:
        text = ""
    if calls.streamer is not None and not calls.streamed:
        _speak(vlm.family.tokenizer, text, calls.streamer)
    ended = time.perf_counter() - calls.started
    flat = [reply for rows in calls.replies for reply in rows]
    once = [rows[0] for rows in calls.replies]  # rows of a batch share its seconds and bytes
    for reply in once:
        for name, seconds in reply.timing.stages.items():
            stages.add(name, seconds)
    finish = "cancelled" if calls.cancel.cancelled else flat[-1].finish if flat else "stop"
    ids = vlm.family.tokenizer(text, add_special_tokens=False)["input_ids"]
    return Reply(
        text=text,
        tokens=flat[-1].tokens if calls.streamed else tuple(ids),
        finish=finish,
        usage=_summed(Usage, [reply.usage for reply in flat]),
        timing=Timing(
            stages=stages.seconds,
            steps=tuple(step for reply in once for step in reply.timing.steps),
            first_token=ended if calls.first is None else calls.first,
            total=ended,
            own=sum(reply.timing.own for reply in once),
        ),
        kv_bytes=max((reply.kv_bytes for reply in once), default=0),
        flops=_summed(Flops, [reply.flops for reply in flat]),
        systems=tuple(item.system_name for item in vlm.plan.systems),
    )


def together(replies: Sequence[Reply]) -> list[Reply]:
    """Replies that were made one after the other, told as those of a batch: each has the seconds
    and the bytes of all."""
    if len(replies) == 1:
        return [*replies]
    times = [reply.timing for reply in replies]
    stages: dict[str, float] = {}
    for timing in times:
        for name, seconds in timing.stages.items():
            stages[name] = stages.get(name, 0.0) + seconds
    whole = Timing(
        stages=stages,
        steps=tuple(step for timing in times for step in timing.steps),
        first_token=0.0,
        total=sum(timing.total for timing in times),
        own=sum(timing.own for timing in times),
    )
    held, before, told = sum(reply.kv_bytes for reply in replies), 0.0, []
    for reply in replies:
        timing = replace(whole, first_token=before + reply.timing.first_token)
        told.append(replace(reply, timing=timing, kv_bytes=held))
        before += reply.timing.total
    return told


T = TypeVar("T", Usage, Flops)


def _summed(kind: type[T], items: Sequence[T]) -> T:
    """The sum of several, number by number."""
    return kind(*[sum(getattr(item, one.name) for item in items) for one in fields(kind)])


def _speak(tokenizer: Any, text: str, streamer: BaseStreamer) -> None:
    """Stream a text that is there as a whole."""
    streamer.put(torch.zeros(1, 0, dtype=torch.long))  # in the place of the prompt
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        streamer.put(torch.tensor([token]))
    streamer.end()
