"""Answering by several calls: of the model itself, of a text model, of an endpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sparsight import Cancel, Plan
from sparsight.core.errors import UserError
from sparsight.core.reply import Reply
from sparsight.llm import endpoint
from sparsight.measure.flops import decoder_shape
from sparsight.measure.memory import kv_bytes
from sparsight.vlm.pipeline import VLM
from tests.llm.endpoint_server import Server, completion, serving
from tests.vlm.test_pipeline import hung_on
from tests.vlm.tiny import QUESTION, WIDE, movie, user

KNOBS: dict[str, Any] = {"prompt": "standard", "words": 10}


@pytest.fixture(autouse=True)
def forgetful(vlm: VLM) -> Iterator[None]:
    """No test finds the captions of another, nor the models it loaded."""
    yield
    for name in ("_kept_texts", "_text_models", "_others"):
        vlm.family.__dict__.pop(name, None)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[Reply]]:
    """The replies of each call of the model, as they come."""
    found: list[list[Reply]] = []
    reply = VLM.reply

    def noting(self: VLM, *args: Any, **more: Any) -> list[Reply]:
        found.append(reply(self, *args, **more))
        return found[-1]

    monkeypatch.setattr(VLM, "reply", noting)
    return found


def llovi(vlm: VLM, **knobs: Any) -> VLM:
    return vlm.using("llovi", **{**KNOBS, **knobs})


# ---- what it costs -----------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "rounds"), [("standard", 1), ("summary", 2)])
def test_what_the_calls_cost_is_summed_up(
    vlm: VLM, calls: list[list[Reply]], prompt: str, rounds: int
) -> None:
    reply = llovi(vlm, prompt=prompt, batch=2, fps=1.5).ask(movie(), QUESTION, max_tokens=3)
    assert [len(rows) for rows in calls] == [2, 1] + [1] * rounds  # 3 clips, then the text
    flat, once = [one for rows in calls for one in rows], [rows[0] for rows in calls]
    assert reply.text == flat[-1].text
    assert reply.tokens == flat[-1].tokens
    assert len(reply.tokens) == 3
    for name in ("visual_seen", "visual_kept", "visual_mean", "prompt", "answer"):
        total = sum(getattr(one.usage, name) for one in flat)
        assert getattr(reply.usage, name) == pytest.approx(total)
    for name in ("tower", "prefill", "decode"):
        total = sum(getattr(one.flops, name) for one in flat)
        assert getattr(reply.flops, name) == pytest.approx(total)
    assert reply.usage.visual_seen == 3 * flat[0].usage.visual_seen > 0
    assert reply.kv_bytes == max(one.kv_bytes for one in once)
    timing = reply.timing
    for stage in ("encode", "prefill"):
        spent = sum(one.timing.stages[stage] for one in once)
        assert timing.stages[stage] == pytest.approx(spent)
    assert timing.steps == tuple(step for one in once for step in one.timing.steps)
    assert sum(timing.stages.values()) + sum(timing.steps) <= timing.total
    assert timing.first_token <= timing.total
    assert timing.first_token >= sum(one.timing.total for one in once[:-1])
    assert (reply.systems, reply.maps) == (("llovi",), ())


def test_captions_are_made_once_and_cost_once(vlm: VLM, calls: list[list[Reply]]) -> None:
    first = llovi(vlm).ask(movie(), QUESTION, max_tokens=3)
    again = llovi(vlm, prompt="summary-blind").ask(movie(), QUESTION, max_tokens=3)
    assert first.usage.visual_seen > 0
    assert again.usage.visual_seen == again.flops.tower == 0
    assert [len(rows) for rows in calls] == [2, 1, 1, 1]


def test_other_systems_of_the_plan_are_on_what_is_shown(vlm: VLM) -> None:
    plain = llovi(vlm).ask(movie(), QUESTION, max_tokens=3)
    for fast in (
        llovi(vlm).using("fastervlm", keep=0.25),
        vlm.using("fastervlm", keep=0.25).using("llovi", **KNOBS),
    ):
        reply = fast.ask(movie(), QUESTION, max_tokens=3)
        assert reply.usage.visual_seen in (plain.usage.visual_seen, 0)  # captioned by the first
        assert reply.usage.visual_kept < plain.usage.visual_kept
        assert len(reply.systems) == 2
    # text alone is no film, which such a system refuses
    assert llovi(vlm).using("evs", keep=0.5).ask(movie(), QUESTION, max_tokens=3).tokens


# ---- the ways to ask ---------------------------------------------------------------------------


def test_all_ways_to_ask_give_the_same_answer(vlm: VLM) -> None:
    fast, messages = llovi(vlm), [user(movie(), QUESTION)]
    heard: list[str] = []
    asked = fast.ask(movie(), QUESTION, max_tokens=4, on_text=heard.append)
    stream = fast.generate(messages, max_tokens=4)
    pieces = list(stream)
    assert stream.result is not None
    assert fast.chat(messages, max_tokens=4).tokens == asked.tokens == stream.result.tokens
    assert tuple(token for piece in pieces for token in piece.tokens) == asked.tokens
    assert "".join(piece.text for piece in pieces).strip() == asked.text == "".join(heard).strip()
    assert len(heard) > 1
    assert hung_on(vlm) == []


def test_what_is_put_into_other_words_is_streamed_as_it_is_told(vlm: VLM) -> None:
    fast = llovi(vlm, prompt="ground")
    heard: list[str] = []
    reply = fast.ask(movie(), QUESTION, max_tokens=4, on_text=heard.append)
    assert reply.text == "".join(heard).strip() == "0.0 to 1.0"
    pieces = list(fast.generate([user(movie(), QUESTION)], max_tokens=4))
    assert "".join(piece.text for piece in pieces) == reply.text


def test_a_batch_takes_one_after_the_other(vlm: VLM) -> None:
    fast = llovi(vlm)
    rows = [[user(movie(), QUESTION)], [user(WIDE, QUESTION)], [user("where is the cat ?")]]
    for messages in rows:
        fast.chat(messages, max_tokens=3)
    heard: list[str] = []
    batch = fast.chat_batch(rows, max_tokens=3, on_text=heard.append)
    for row, messages in zip(batch, rows, strict=True):
        alone = fast.chat(messages, max_tokens=3)
        assert (row.tokens, row.usage, row.flops) == (alone.tokens, alone.usage, alone.flops)
    assert "".join(heard).strip() == batch[0].text
    assert len({row.timing.total for row in batch}) == 1
    assert max(row.timing.first_token for row in batch) <= batch[0].timing.total


def test_the_request_rules_the_last_call(vlm: VLM) -> None:
    fast = llovi(vlm)
    greedy = fast.ask(movie(), QUESTION, max_tokens=5)
    assert fast.ask(movie(), QUESTION, max_tokens=5, temperature=0).tokens == greedy.tokens

    def drawn(seed: int, **sampling: Any) -> tuple[int, ...]:
        seeded = fast.planned(Plan(systems=fast.plan.systems, seed=seed))
        return seeded.ask(movie(), QUESTION, max_tokens=5, **sampling).tokens

    assert len({drawn(seed, temperature=3.0) for seed in range(4)}) > 1
    assert len({drawn(seed, do_sample=True) for seed in range(4)}) > 1
    assert drawn(1, temperature=3.0) == drawn(1, temperature=3.0)


# ---- stopping and refusing ---------------------------------------------------------------------


def test_cancelling_stops_before_the_next_call_and_keeps_what_was_made(
    vlm: VLM, calls: list[list[Reply]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, noting = Cancel(), VLM.reply

    def cancelling(self: VLM, *args: Any, **more: Any) -> list[Reply]:
        replies = noting(self, *args, **more)
        cancel.cancel()
        return replies

    monkeypatch.setattr(VLM, "reply", cancelling)
    fast = llovi(vlm, batch=1)
    reply = fast.ask(movie(), QUESTION, max_tokens=5, cancel=cancel)
    assert (reply.text, reply.finish, len(calls)) == ("", "cancelled", 1)
    assert reply.usage.visual_seen == calls[0][0].usage.visual_seen
    assert hung_on(vlm) == []
    monkeypatch.setattr(VLM, "reply", noting)
    fast.ask(movie(), QUESTION, max_tokens=5)
    assert len(calls) == 1 + 1 + 1  # the other clip, the answer


def test_a_caption_that_was_cut_short_by_a_cancel_is_not_kept(
    vlm: VLM, calls: list[list[Reply]]
) -> None:
    cancel = Cancel()
    vlm.family.decoder.layers[0].register_forward_hook(hook := lambda *_: cancel.cancel())
    try:
        reply = llovi(vlm).ask(movie(), QUESTION, max_tokens=5, cancel=cancel)
    finally:
        hooks = vlm.family.decoder.layers[0]._forward_hooks
        for key in [key for key, value in hooks.items() if value is hook]:
            del hooks[key]
    assert (reply.text, reply.finish) == ("", "cancelled")
    assert llovi(vlm).ask(movie(), QUESTION, max_tokens=3).usage.visual_seen > 0


def test_a_frame_selection_is_refused(vlm: VLM) -> None:
    with pytest.raises(UserError, match="llovi chooses the frames itself: leave out"):
        llovi(vlm).ask(movie(), QUESTION, frames="uniform:2")
    with pytest.raises(UserError, match="llovi chooses the frames itself: leave out"):
        llovi(vlm.planned(Plan(frames="uniform:2"))).ask(movie(), QUESTION)


def test_a_placeholder_in_the_question_is_refused(vlm: VLM, calls: list[list[Reply]]) -> None:
    with pytest.raises(UserError, match="stands for a medium"):
        llovi(vlm).ask(movie(), "what is <image> ?")
    assert calls == []


def test_a_system_that_chooses_frames_does_not_go_with_it(vlm: VLM) -> None:
    with pytest.raises(UserError, match="ts-llava and llovi both fill the slot 'select'"):
        llovi(vlm).using("ts-llava", frames=2)


# ---- other models ------------------------------------------------------------------------------


@pytest.fixture
def text_folder(folder: str, tmp_path: Path) -> Path:
    """A random text model with the tokenizer of the checkpoint that sees."""
    tokens = AutoTokenizer.from_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = LlamaConfig(
        **sizes,
        num_attention_heads=2,
        vocab_size=len(tokens),
        eos_token_id=tokens.eos_token_id,
        bos_token_id=None,
        max_position_embeddings=600,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "text")
    tokens.save_pretrained(tmp_path / "text")
    return tmp_path / "text"


@pytest.mark.parametrize("template", [True, False])
def test_a_text_model_reads_the_captions(
    vlm: VLM, calls: list[list[Reply]], text_folder: Path, template: bool
) -> None:
    if not template:
        for path in text_folder.glob("chat_template*"):
            path.unlink()
        settings = json.loads((text_folder / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        (text_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    fast = llovi(vlm, llm=str(text_folder))
    heard: list[str] = []
    reply = fast.ask(movie(), QUESTION, max_tokens=4, on_text=heard.append)
    assert [len(rows) for rows in calls] == [2]  # the captions alone
    seen = sum(one.usage.prompt for one in calls[0])
    text = fast.family.__dict__["_text_models"][str(text_folder)]
    length = reply.usage.prompt - seen
    assert reply.text == "".join(heard).strip()
    again = fast.ask(movie(), QUESTION, max_tokens=4)
    assert again.text == reply.text
    assert again.usage.prompt == length
    assert again.usage.answer == 4
    shape = decoder_shape(text.model.config)
    assert again.kv_bytes == kv_bytes(shape, [length + 3] * shape.layers, value_bytes=4)
    assert again.flops.prefill > 0 < again.flops.decode
    assert again.flops.tower == 0
    assert fast.family.__dict__["_text_models"][str(text_folder)] is text  # loaded once


def test_a_text_model_is_given_no_more_than_it_reads(
    vlm: VLM, text_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fast = llovi(vlm, llm=str(text_folder), fps=4.0)
    reply = fast.ask(movie(8), QUESTION, max_tokens=4)
    assert len(reply.text) > 0
    assert "too many for the language model" in caplog.text
    with pytest.raises(UserError, match="the answer up to 590, but the text model has 600"):
        fast.ask(movie(8), QUESTION, max_tokens=590)


def test_a_text_model_that_does_not_load_is_one_line(vlm: VLM, text_folder: Path) -> None:
    (text_folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(UserError, match="does not load") as caught:
        llovi(vlm, llm=str(text_folder)).ask(movie(), QUESTION)
    assert "\n" not in str(caught.value)
    (text_folder / "model.safetensors").unlink()
    (text_folder / "pytorch_model.bin").write_bytes(b"none")
    with pytest.raises(UserError, match="pickle weights only"):
        llovi(vlm, llm=str(text_folder)).ask(movie(), QUESTION)


def test_another_checkpoint_captions(
    vlm: VLM, folder: str, tmp_path: Path, calls: list[list[Reply]]
) -> None:
    other = str(shutil.copytree(folder, tmp_path / "other"))
    fast = llovi(vlm, captioner=other).using("fastervlm", keep=0.25)
    reply = fast.ask(movie(), QUESTION, max_tokens=3)
    assert [len(rows) for rows in calls] == [2, 1]
    # the plan's systems are for the plan's model
    assert reply.usage.visual_kept == reply.usage.visual_seen > 0


# ---- an endpoint -------------------------------------------------------------------------------


def test_an_endpoint_answers_from_the_captions(vlm: VLM, server: Server) -> None:
    server.answer(completion(" B. a cat "))
    fast = llovi(vlm, llm=server.url, llm_name="far")
    heard: list[str] = []
    reply = fast.ask(
        movie(), QUESTION, max_tokens=9, temperature=0.5, top_p=0.9, on_text=heard.append
    )
    [(_, _, body)] = server.asked
    assert reply.text == "".join(heard) == "B. a cat"
    assert (body["model"], body["max_tokens"]) == ("far", 9)
    assert (body["temperature"], body["top_p"]) == (0.5, 0.9)
    assert QUESTION in body["messages"][-1]["content"]
    again = fast.ask(movie(), QUESTION, max_tokens=9)
    assert (again.usage.prompt, again.usage.answer, again.flops.total) == (11, 3, 0)
    assert server.asked[-1][2]["temperature"] == 0
    assert again.timing.first_token == pytest.approx(again.timing.total, abs=0.5)
    with pytest.raises(UserError, match="an endpoint cannot be asked for top_k"):
        fast.ask(movie(), QUESTION, top_k=5)


def test_captions_outlast_an_endpoint_that_is_down(
    vlm: VLM, server: Server, calls: list[list[Reply]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint.time, "sleep", lambda _: None)
    server.answer(b"", 503)
    fast = llovi(vlm, llm=server.url, llm_name="far")
    with pytest.raises(UserError, match=r"answered 503 \(4 tries\): see that it runs, then ask"):
        fast.ask(movie(), QUESTION)
    assert hung_on(vlm) == []
    server.answers.clear()
    server.answer(completion("A"))
    assert fast.ask(movie(), QUESTION).text == "A"
    assert len(calls) == 1  # the captions, once


def test_a_text_reader_is_shown_no_picture(vlm: VLM, text_folder: Path) -> None:
    with pytest.raises(UserError, match="reads text alone"):
        llovi(vlm, captioner=str(text_folder)).ask(WIDE, QUESTION)


def test_a_plan_with_a_pipeline_is_saved_and_read_back(vlm: VLM, tmp_path: Path) -> None:
    fast = llovi(vlm, prompt="ground", fps=2.0)
    fast.plan.save(tmp_path / "plan.yaml")
    assert vlm.planned(Plan.load(tmp_path / "plan.yaml")).plan.systems == fast.plan.systems
    assert torch.is_inference_mode_enabled() is False
