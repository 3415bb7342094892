"""Tokens as they come: streaming, cancelling and timing a `model.generate` call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from queue import Queue
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

T = TypeVar("T")


class Cancel(StoppingCriteria):
    """A stopping criterion that ends generation after the token at hand, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self.cancelled, device=input_ids.device)


class StepTimes(StoppingCriteria):
    """Notes when each token was chosen; `start` is when it was made. Never stops anything.

    Args:
        sync: called before each reading, to wait for the device; None reads the host's clock as
            it is, which on a GPU runs ahead of the work.
    """

    def __init__(self, sync: Callable[[], None] | None = None) -> None:
        self._sync = sync
        self.start = time.perf_counter()
        self.at: list[float] = []  # time.perf_counter() seconds, one a token

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        if self._sync is not None:
            self._sync()
        self.at.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    @property
    def first(self) -> float | None:
        """Seconds from the start to the first token; None before it."""
        return self.at[0] - self.start if self.at else None

    @property
    def steps(self) -> list[float]:
        """Seconds of each token after the first."""
        return [b - a for a, b in zip(self.at, self.at[1:], strict=False)]


class Detokenizer:
    """Token ids to text, piece by piece, never cutting a character that spans several tokens.

    The pieces joined equal `tokenizer.decode` of all ids (special tokens left out).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # Decoding starts a little before what is new: what a token reads as depends on the one
        # before it (a leading space, the bytes of one character).
        self._from = 0
        self._read = 0

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def push(self, ids: list[int]) -> str:
        """The text that these ids complete; may be empty."""
        self._ids += ids
        text = self._decode(self._ids[self._from :])
        return "" if text.endswith("\ufffd") else self._piece(text)

    def flush(self) -> str:
        """What is left at the end, unfinished characters as U+FFFD."""
        return self._piece(self._decode(self._ids[self._from :]))

    def _piece(self, text: str) -> str:
        known = self._decode(self._ids[self._from : self._read])
        self._from, self._read = self._read, len(self._ids)
        return text[len(known) :]


@dataclass(frozen=True)
class Piece:
    """One step of a stream.

    tokens   the new id of each row; empty for the text left at the end
    text     what row 0 can show of it; empty without a tokenizer or inside a character
    seconds  since the stream was opened
    """

    tokens: tuple[int, ...]
    text: str
    seconds: float


class Stream(Iterator[Piece], Generic[T]):
    """Pieces of a generation that runs in a worker thread, made by `stream`.

    `result` is what the run returned, once the pieces are through. An exception of the worker
    is raised here. `close`, leaving a `with` block, dropping the stream and Ctrl-C all cancel the
    generation within one token.
    """

    def __init__(
        self,
        run: Callable[[BaseStreamer, StoppingCriteriaList], T],
        tokenizer: Any,
        cancel: Cancel,
    ) -> None:
        self.cancel = cancel
        self.result: T | None = None
        self._done = False
        self._start = time.perf_counter()
        self._text = Detokenizer(tokenizer) if tokenizer is not None else None
        self._queue: Queue[Any] = Queue()
        # The worker sees the contexts that are open here, and holds no reference to the stream,
        # so that dropping the stream ends it.
        self._worker = threading.Thread(
            target=copy_context().run, args=(_work, run, self._queue, cancel), daemon=True
        )
        self._worker.start()

    def __next__(self) -> Piece:
        if self._done:
            raise StopIteration
        try:
            kind, value, at = self._queue.get()
        except KeyboardInterrupt:
            self.close()
            raise
        seconds = at - self._start
        if kind == "tokens":
            text = self._text.push(value[:1]) if self._text is not None else ""
            return Piece(tuple(value), text, seconds)
        self._done = True
        self._worker.join()
        if kind == "error":
            raise value
        self.result = value
        rest = self._text.flush() if self._text is not None else ""
        if rest:
            return Piece((), rest, seconds)
        raise StopIteration

    def close(self) -> None:
        """Cancel the generation and wait for the worker to end, within one token."""
        self.cancel.cancel()
        self._done = True
        self._worker.join()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.cancel.cancel()


def stream(
    run: Callable[[BaseStreamer, StoppingCriteriaList], T],
    tokenizer: Any = None,
    cancel: Cancel | None = None,
) -> Stream[T]:
    """Run a generation in a worker thread and iterate over its tokens as they come.

    Args:
        run: calls `model.generate(..., streamer=first, stopping_criteria=second)` and returns
            what the caller wants to have as `Stream.result`.
        tokenizer: turns the ids of row 0 into text; None for ids alone.
        cancel: shared with whoever else may stop the generation.

    Context managers open here (`edited`, `deepstack`, `probe`, no_grad is per thread and is not
    among them) hold in the worker too; they must stay open until the stream ends.
    """
    return Stream(run, tokenizer, cancel or Cancel())


def _work(
    run: Callable[[BaseStreamer, StoppingCriteriaList], Any], queue: Queue[Any], cancel: Cancel
) -> None:
    try:
        result = run(_Feed(queue), StoppingCriteriaList([cancel]))
    except BaseException as error:
        queue.put(("error", error, time.perf_counter()))
    else:
        queue.put(("result", result, time.perf_counter()))


class _Feed(BaseStreamer):
    """Puts the new ids of every step into a queue; the prompt, which comes first, is left out."""

    def __init__(self, queue: Queue[Any]) -> None:
        self._queue = queue
        self._prompt = True

    def put(self, value: Tensor) -> None:
        if self._prompt:
            self._prompt = False
        else:
            self._queue.put(("tokens", value.flatten().tolist(), time.perf_counter()))

    def end(self) -> None:
        pass


class Speaker(BaseStreamer):
    """Says the text of the first row as it comes."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        self.words, self.on_text, self.prompt = Detokenizer(tokenizer), on_text, True

    def put(self, value: Tensor) -> None:
        if self.prompt:  # transformers hands over the prompt first
            self.prompt = False
        else:
            self._say(self.words.push(value.flatten()[:1].tolist()))

    def end(self) -> None:
        self._say(self.words.flush())

    def _say(self, text: str) -> None:
        if text:
            self.on_text(text)
