"""The slots a system can fill, as protocols. A system fills every slot whose method it has.

Nothing flows backwards: select -> tile -> encode -> connect -> reduce -> positions -> inside ->
cache -> decode. A system may also say `needs() -> tuple[Need, ...]`: what it wants computed
upstream; a family that cannot supply a need is refused before any work.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.tokens import FeatureMap, VisualTokens


@dataclass(frozen=True)
class Need:
    """Something a system wants from upstream.

    name   one of `NEEDS`
    block  the tower block it is read from: 0-based from the first, negative from the block that
           produces the features (-1 is that block itself), "last" the tower's last.
    """

    name: str
    block: int | Literal["last"] = -1

    @property
    def key(self) -> str:
        """The name of its signal: "keys", or "keys@0" where it is not the features' block."""
        return self.name if self.block == -1 else f"{self.name}@{self.block}"


#: Every need a system can declare, and what it means.
NEEDS = {
    "cls_attention": "attention of the CLS token to each patch, (V, h, w, heads)",
    "cls_attention_joined": "attention of CLS to each patch, heads taken as one, (V, h, w, 1)",
    "received_attention": "mean attention each patch receives from all tokens, (V, h, w, heads)",
    "keys": "keys of each patch, heads side by side, (V, h, w, heads * a)",
    "features": "the tower's features of each patch, before the projector, (V, h, w, C)",
    "cls_feature": "the feature of each view's CLS token, at every patch, (V, h, w, C)",
    "square_views": "film frames that reach the tower as square (V, 3, S, S) pixels",
    "tower_blocks": "a tower of plain blocks (attention, MLP) whose tokens may be merged inside",
    "film": "films",
    "question_attention": "attention that the question pays each token in the LLM's first layer",
}


class Viewer(Protocol):
    """A model that a system may ask while it works: the checkpoint itself without any system, or
    another one. Greedy; what it costs is counted as the system's."""

    def answer(self, text: str, frames: Tensor | None = None, *, max_tokens: int = 128) -> str:
        """The answer to a text, about frames (T, H, W, 3) uint8 as one film if they are given.

        Raises `UserError` where the prompt is longer than the model has positions for.
        """
        ...

    def probability(self, frames: Tensor, texts: Sequence[str], option: str = "A") -> Tensor:
        """How likely an answer begins with an option, asked of each frame on its own.

        Args:
            frames: (T, H, W, 3) uint8; each is shown alone.
            texts: Q texts; a frame is looked at once for all of them.
            option: a letter that the texts give a meaning, or a short word such as "yes".

        Returns (T, Q) float64 on the CPU: the softmax over the whole vocabulary behind the prompt.
        """
        ...

    def other(self, model: str) -> Viewer:
        """Another checkpoint, by hub id or folder, loaded when it is first named; "self" is this
        one. Raises `UserError` as loading does."""
        ...


@dataclass(frozen=True)
class Request:
    """What a system may know about the request: the question, the model that is asked.

    `text` is the question (all text of the last user turn), `text_embeds` (L, D) its token
    embeddings, `media` how many media the request holds. `viewer` is None where no model can be
    asked, as in training. `frames` says how many frames of a film the checkpoint usually takes,
    `together` how many neighbouring ones its tower reads as one. `ids` is the prompt before any
    reduction, every placeholder written out; None where it is not known.
    """

    text: str
    text_embeds: Tensor
    media: int = 1
    viewer: Viewer | None = None
    frames: int = 8
    together: int = 1
    ids: Sequence[int] | None = None

    def asking(self, model: str = "self") -> Viewer:
        """The model to ask, or another checkpoint by name. Raises `UserError` without one."""
        if self.viewer is None:
            raise UserError(
                "a system that asks the model while it works cannot be used here: leave it out"
            )
        return self.viewer.other(model)


@dataclass(frozen=True)
class Chosen:
    """Frames chosen with care: their indices, ascending, duplicates allowed, and the `share` (T,)
    of the visual tokens that each is worth, which its view carries on (`Views.share`). What is
    `told` of them stands in the prompt behind the film, before the words that follow it."""

    frames: list[int]
    share: Tensor | None = None
    told: str = ""


@runtime_checkable
class Selects(Protocol):
    """Slot "select": choose the frames of a film."""

    def select(self, clip: Clip, request: Request) -> list[int] | Chosen:
        """Frame indices, duplicates allowed; ascending, but that frames which the tower reads as
        one (`Request.together`) may stand side by side."""
        ...


@runtime_checkable
class Tiles(Protocol):
    """Slot "tile": make further views from the frames of a film."""

    def tile(self, pixels: Tensor) -> Tensor:
        """Preprocessed frames (T, 3, S, S) -> further views (K, 3, S, S)."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Slot "encode": merge tokens inside the vision tower."""

    def merging(self, depth: int, tokens: int) -> Any:
        """A `sparsight.modules.towers.TowerMerge` for `depth` blocks of `tokens` patches."""
        ...


@runtime_checkable
class Connects(Protocol):
    """Slot "connect": pack projected features into the sequence, in place of the family's way."""

    def connect(self, features: FeatureMap) -> VisualTokens | None:
        """The packed tokens of a medium; None leaves it to the family."""
        ...


@runtime_checkable
class Reduces(Protocol):
    """Slot "reduce": shorten the visual tokens before the LLM."""

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens: ...


@runtime_checkable
class Rotates(Protocol):
    """Slot "positions": rotate queries and keys of the LLM by other frequencies."""

    def frequencies(self, inverse: Tensor, needed: int, trained: int) -> Tensor:
        """The inverse frequencies (A / 2,) for one prompt, before it is read.

        Args:
            inverse: (A / 2,) those of the LLM, whose heads are A wide.
            needed: positions of the prompt and the longest answer.
            trained: positions that the LLM was trained on.

        Raises `UserError` where the prompt stays out of range.
        """
        ...


@runtime_checkable
class Inside(Protocol):
    """Slot "inside": drop or merge visual tokens between the layers of the LLM."""

    def edits(self, depth: int) -> Sequence[Any]:
        """`sparsight.llm.edits.LayerEdit`s for an LLM of `depth` layers."""
        ...


@runtime_checkable
class Caches(Protocol):
    """Slot "cache": hold keys and values in another way."""

    def cache(self, layers: int, padding: Tensor) -> Any:
        """A transformers `Cache` for a batch whose prompts hold no token where `padding` (B, L)
        is true; None for the usual one."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Slot "decode": choose each token of the answer by two prompts instead of one.

    The second prompt has the same text; `against` says which visual tokens stand in it.
    """

    def against(self, tokens: VisualTokens) -> VisualTokens:
        """What stands for a medium in the second prompt, of all its tokens before reduction."""
        ...

    def decoding(self, logits: Tensor, second: Tensor) -> Tensor:
        """The next token's logits (B, V) of the first prompts and of the second -> those that it
        is chosen by, all float32."""
        ...


class Caller(Protocol):
    """A model that a system asks several times for one answer. Every call is a request of its own,
    and what it costs is a part of the reply's.

    Calls that show media run under the plan's other systems, where the model is the plan's own.
    Messages are those that `VLM.chat` takes.
    """

    @property
    def name(self) -> str:
        """Model and systems as text; the same name stands for the same greedy answers."""
        ...

    @property
    def kept(self) -> MutableMapping[str, str]:
        """Texts by keys of the system's own, which stay as long as the plan's checkpoint does."""
        ...

    def say(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        last: bool = False,
    ) -> str:
        """What the model says; at temperature 0 it is greedy.

        The `last` call gives the answer: the longest answer and the sampling that the request
        names take the place of these, and the text is streamed where the request wants that.
        """
        ...

    def say_all(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], *, max_tokens: int
    ) -> list[str]:
        """What the model says to each of several conversations in one batch, greedily."""
        ...

    def fits(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = 0,
        last: bool = False,
    ) -> bool:
        """Whether messages of text and the answer are within what the model was trained to read;
        True where that is not known."""
        ...

    def other(self, model: str) -> Caller:
        """Another checkpoint by hub id or folder, with or without eyes, loaded when it is first
        named; "self" is this one. Raises `UserError` as loading does."""
        ...

    def endpoint(self, url: str, model: str, key: str) -> Caller:
        """A model behind an OpenAI-compatible URL, to be asked about text alone.

        Args:
            url: the base, such as "http://localhost:8000/v1".
            model: what it is called there.
            key: the environment variable that holds the key; where it is not set, none is sent.
        """
        ...


@runtime_checkable
class Answers(Protocol):
    """Slot "pipeline": answer by several calls, of the plan's model or of others."""

    def answer(
        self, media: Sequence[Clip], turns: Sequence[Mapping[str, str]], caller: Caller
    ) -> str:
        """The answer to a conversation.

        Args:
            media: what it is about, in the order of the conversation.
            turns: its messages (role, content), of text alone; the last is the question.
            caller: the plan's model.
        """
        ...


#: Slot name -> the method that fills it, in the order the data passes them.
SLOTS = {
    "select": "select",
    "tile": "tile",
    "encode": "merging",
    "connect": "connect",
    "reduce": "reduce",
    "positions": "frequencies",
    "inside": "edits",
    "cache": "cache",
    "decode": "decoding",
    "pipeline": "answer",
}


def slots_of(system: Any) -> tuple[str, ...]:
    """The slots a system (class or instance) fills, in order."""
    return tuple(slot for slot, method in SLOTS.items() if callable(getattr(system, method, None)))


def needs_of(system: Any) -> tuple[Need, ...]:
    """What a system instance needs from upstream."""
    needs = getattr(system, "needs", None)
    found = tuple(needs()) if needs is not None else ()
    assert all(need.name in NEEDS for need in found), f"undeclared need in {found}"
    return found
