"""Streaming, cancelling and timing of generation."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, StoppingCriteriaList

from sparsight.llm.cache import kv_tokens
from sparsight.llm.edits import edited
from sparsight.llm.generation import Cancel, Detokenizer, StepTimes, stream

from .tiny import fastv, layout_of, prompt, qwen2

TEXT = "Ein Öl-Bild: 中文 👩‍👩‍👧 naïve\n\nfin "


def byte_tokenizer(special: str = "<end>") -> Any:
    """One token a byte: every character beyond ASCII spans several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=special)


def saying(ids: list[int], result: Any = None) -> Callable[[Any, Any], Any]:
    """A run that says these ids one by one, as `generate` would."""

    def run(streamer: Any, stopping: StoppingCriteriaList) -> Any:
        streamer.put(torch.zeros(1, 3, dtype=torch.long))
        for i in ids:
            streamer.put(torch.tensor([i]))
        streamer.end()
        return result

    return run


def endless(
    model: Any, calls: list[float] | None = None, **options: Any
) -> Callable[[Any, Any], Any]:
    def run(streamer: Any, stopping: StoppingCriteriaList) -> Any:
        return model.generate(
            inputs_embeds=prompt(model),
            attention_mask=torch.ones(1, 20, dtype=torch.long),
            streamer=streamer,
            stopping_criteria=stopping,
            **{"max_new_tokens": 400, "do_sample": False, **options},
        )

    return run


def test_pieces_never_cut_a_character_and_join_to_the_text() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode(TEXT)
    pieces = [piece.text for piece in stream(saying(ids), tokenizer)]
    assert "".join(pieces) == TEXT
    assert not any("\ufffd" in piece for piece in pieces)
    assert pieces[:4] == ["E", "i", "n", " "]  # at once, not word by word


def test_a_character_left_unfinished_shows_at_the_end() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("aé")[:-1]
    pieces = list(stream(saying(ids), tokenizer))
    assert [piece.text for piece in pieces] == ["a", "", "\ufffd"]
    assert pieces[-1].tokens == ()


def test_special_tokens_are_not_shown() -> None:
    tokenizer = byte_tokenizer()
    ids = [*tokenizer.encode("ok"), tokenizer.eos_token_id]
    assert "".join(piece.text for piece in stream(saying(ids), tokenizer)) == "ok"


def test_several_ids_at_once_are_joined() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode(TEXT)
    text = Detokenizer(tokenizer)
    shown = [text.push(ids[i : i + 7]) for i in range(0, len(ids), 7)]
    assert "".join([*shown, text.flush()]) == TEXT


def test_tokens_are_those_of_generate_and_the_result_is_handed_on() -> None:
    model = qwen2()
    torch.manual_seed(1)
    right = endless(model, max_new_tokens=8)(None, StoppingCriteriaList())
    torch.manual_seed(1)
    running = stream(endless(model, max_new_tokens=8))
    assert running.result is None
    pieces = list(running)
    assert [piece.tokens[0] for piece in pieces] == right[0].tolist()
    assert torch.equal(running.result, right)
    times = [piece.seconds for piece in pieces]
    assert times == sorted(times)
    assert times[0] > 0


def test_a_batch_gives_one_id_a_row() -> None:
    model = qwen2()
    embeds = prompt(model, 3)

    def run(streamer: Any, stopping: Any) -> Any:
        return model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(3, 20, dtype=torch.long),
            streamer=streamer,
            stopping_criteria=stopping,
            max_new_tokens=4,
            do_sample=False,
        )

    running = stream(run)
    got = torch.tensor([piece.tokens for piece in running]).T
    assert torch.equal(got, running.result)


def test_an_exception_of_the_worker_reaches_the_consumer() -> None:
    def run(streamer: Any, stopping: Any) -> None:
        streamer.put(torch.zeros(1, 3))
        streamer.put(torch.tensor([7]))
        raise RuntimeError("out of memory")

    running = stream(run)
    assert next(running).tokens == (7,)
    with pytest.raises(RuntimeError, match="out of memory"):
        next(running)
    assert list(running) == []


def test_closing_cancels_within_one_token() -> None:
    model, cancel = qwen2(), Cancel()
    chosen: list[int] = []

    def waiting(input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Runs after `cancel` was asked at each step; holds the second one until it is set."""
        chosen.append(input_ids.shape[1])
        while len(chosen) == 2 and not cancel.cancelled:
            time.sleep(0.001)
        return torch.zeros(len(input_ids), dtype=torch.bool)

    def run(streamer: Any, stopping: Any) -> Any:
        stopping.append(waiting)
        return endless(model)(streamer, stopping)

    running = stream(run, cancel=cancel)
    next(running)
    running.close()
    assert chosen in ([1, 2], [1, 2, 3])  # the second step may have seen the event itself
    assert not running._worker.is_alive()
    assert list(running) == []
    running.close()


def test_cancelling_before_the_start_gives_one_token() -> None:
    model = qwen2()
    cancel = Cancel()
    cancel.cancel()
    assert len(list(stream(endless(model), cancel=cancel))) == 1
    assert cancel.cancelled


def test_cancelling_from_another_thread_ends_the_stream_with_what_was_said() -> None:
    model = qwen2()
    cancel = Cancel()
    running = stream(endless(model), cancel=cancel)
    next(running)
    threading.Thread(target=cancel.cancel).start()
    said = 1 + sum(1 for _ in running)
    assert said < 400
    assert running.result is not None
    assert running.result.shape == (1, said)


def test_leaving_the_block_and_dropping_the_stream_both_cancel() -> None:
    model = qwen2()
    with stream(endless(model)) as running:
        next(running)
    assert running.cancel.cancelled
    dropped = stream(endless(model))
    cancel, worker = dropped.cancel, dropped._worker
    del dropped
    gc.collect()
    assert cancel.cancelled
    worker.join(10)
    assert not worker.is_alive()


def test_ctrl_c_while_waiting_stops_the_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwen2()
    running = stream(endless(model))
    next(running)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running._queue, "get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(running)
    assert running.cancel.cancelled
    assert not running._worker.is_alive()


def test_edits_opened_around_a_stream_hold_in_its_worker() -> None:
    model = qwen2()
    layout = layout_of(torch.ones(1, 20, dtype=torch.long))
    with edited(model.model, [fastv(2, 3)], layout):
        running = stream(endless(model, max_new_tokens=4, return_dict_in_generate=True))
        assert len(list(running)) == 4
    assert running.result is not None
    assert kv_tokens(running.result.past_key_values) == [23, 23, 16, 16, 16]


def test_step_times_are_one_a_token_after_a_device_sync() -> None:
    model = qwen2()
    syncs: list[int] = []
    times = StepTimes(sync=lambda: syncs.append(1))
    endless(model, max_new_tokens=6)(None, StoppingCriteriaList([times]))
    assert times.first is not None
    assert times.first > 0
    assert len(times.steps) == 5
    assert all(step > 0 for step in times.steps)
    assert len(syncs) == 6
    assert abs(times.first + sum(times.steps) - (times.at[-1] - times.start)) < 1e-9
    assert StepTimes().first is None
