"""Decoding with a second prompt: two streams, two caches, one answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsight import Plan
from sparsight.core.tokens import VisualTokens
from sparsight.measure.flops import counted_flops, decoder_shape
from sparsight.measure.memory import kv_bytes
from sparsight.vlm.pipeline import VLM
from tests.vlm.tiny import QUESTION, TALL, WIDE, ClipOnevision, checkpoint, movie, user

from test_qwen3_vl import Qwen3Recipe  # isort: skip  (tests.vlm.tiny makes it importable)

STEPS = 5


@dataclass
class Noted:
    """The calls of a system's `decoding`: what it was given and what it gave."""

    first: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)
    mixed: list[Tensor] = field(default_factory=list)


def noting(fast: VLM, patch: pytest.MonkeyPatch) -> Noted:
    """Note what the decoding system of a plan does."""
    noted = Noted()
    [cls] = [type(item) for item in fast.plan.systems if hasattr(item, "decoding")]
    decoding = cls.decoding

    def spy(self: Any, logits: Tensor, second: Tensor) -> Tensor:
        mixed = decoding(self, logits, second)
        for calls, value in zip(vars(noted).values(), (logits, second, mixed), strict=True):
            calls.append(value.clone())
        return mixed

    patch.setattr(cls, "decoding", spy)
    return noted


@torch.no_grad()
def next_logits(vlm: VLM, prompt: Any, answer: list[int]) -> Tensor:
    """The logits (V,) behind a prompt and a part of the answer, everything computed anew."""
    table = vlm.family.model.get_input_embeddings()
    embeds, positions = prompt.embeds[None], prompt.positions
    for token in answer:
        embeds = torch.cat([embeds, table(torch.tensor([[token]]))], 1)
        positions = torch.cat([positions, positions[:, -1:] + 1], 1)
    ids = positions if len(positions) == 1 else positions[:, None]
    return vlm.family.model(inputs_embeds=embeds, position_ids=ids).logits[0, -1]


# ---- two streams -------------------------------------------------------------------------------


def test_without_contrast_and_cutoff_the_answer_is_the_plain_models_bit_by_bit(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = vlm.using("damro", k=2, alpha=0.0, beta=0.0)
    noted = noting(fast, monkeypatch)
    reply = fast.ask([WIDE, movie()], QUESTION, max_tokens=STEPS)
    assert reply.tokens == vlm.ask([WIDE, movie()], QUESTION, max_tokens=STEPS).tokens
    assert len(noted.first) == STEPS
    assert all(map(torch.equal, noted.mixed, noted.first))


def test_without_contrast_the_cutoff_leaves_the_greedy_answer(vlm: VLM) -> None:
    fast = vlm.using("damro", k=2, alpha=0.0, beta=0.1)
    plain = vlm.ask(WIDE, QUESTION, max_tokens=STEPS)
    assert fast.ask(WIDE, QUESTION, max_tokens=STEPS).tokens == plain.tokens


def test_cached_decoding_is_both_prompts_read_anew_for_each_token(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = vlm.using("damro", k=2, alpha=3.0, beta=0.5)
    noted = noting(fast, monkeypatch)
    reply = fast.ask([TALL, movie()], QUESTION, max_tokens=STEPS)
    [prepared] = fast.prepare([[user(TALL, movie(), QUESTION)]])
    answer: list[int] = []
    for step in range(STEPS):
        for prompt, got in ((prepared.prompt, noted.first), (prepared.second, noted.second)):
            expected = next_logits(vlm, prompt, answer)
            torch.testing.assert_close(got[step][0], expected, atol=1e-5, rtol=0)
        answer.append(int(noted.mixed[step].argmax()))
    assert list(reply.tokens) == answer
    assert reply.tokens != vlm.ask([TALL, movie()], QUESTION, max_tokens=STEPS).tokens


def test_the_second_prompt_is_the_text_and_the_outliers(vlm: VLM) -> None:
    [plain] = vlm.prepare([[user(TALL, movie(), QUESTION)]])
    [prepared] = vlm.using("damro", k=3).prepare([[user(TALL, movie(), QUESTION)]])
    second = prepared.second
    assert second is not None
    assert torch.equal(second.embeds[~second.visual], plain.prompt.embeds[~plain.prompt.visual])
    assert torch.equal(prepared.prompt.embeds, plain.prompt.embeds)
    # a picture beside others is one view; a film of four frames; each ends with a newline
    assert [(second.medium == place).sum().item() for place in (0, 1)] == [3 + 1, 4 * 3 + 1]
    assert second.positions.tolist() == [list(range(len(second)))]


def test_both_caches_grow_by_the_answer_and_are_counted(vlm: VLM) -> None:
    fast = vlm.using("damro", k=2)
    [prepared] = fast.prepare([[user(WIDE, QUESTION)]])
    assert prepared.second is not None
    reply = fast.ask(WIDE, QUESTION, max_tokens=STEPS)
    shape = decoder_shape(vlm.family.decoder.config)
    lengths = [len(prompt) + STEPS - 1 for prompt in (prepared.prompt, prepared.second)]
    assert reply.kv_bytes == sum(
        kv_bytes(shape, [length] * shape.layers, value_bytes=4) for length in lengths
    )


class Call(nn.Module):
    """A call as a module, so that its operations can be counted."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def forward(self) -> None:
        self.run()


def test_operations_of_both_streams_are_counted(vlm: VLM) -> None:
    fast = vlm.using("damro", k=2)
    plain = vlm.ask(movie(), QUESTION, max_tokens=4)
    reply = fast.ask(movie(), QUESTION, max_tokens=4)
    first = counted_flops(Call(lambda: fast.ask(movie(), QUESTION, max_tokens=1)))
    whole = counted_flops(Call(lambda: fast.ask(movie(), QUESTION, max_tokens=4)))
    assert first == pytest.approx(reply.flops.tower + reply.flops.prefill, rel=0.01)
    assert whole - first == pytest.approx(reply.flops.decode, rel=0.01)
    assert reply.flops.tower == plain.flops.tower
    assert plain.flops.prefill < reply.flops.prefill < 2 * plain.flops.prefill
    assert reply.usage.visual_mean == plain.usage.visual_mean


@pytest.mark.parametrize("padded", [False, True])
def test_in_a_batch_each_row_has_its_own_second_prompt_and_text_has_none(
    vlm: VLM, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = vlm.using("damro", k=2, alpha=3.0, beta=0.5)
    rows = [[user(WIDE, QUESTION)], [user("where is the cat ?")], [user(movie(), TALL, QUESTION)]]
    rows = rows if padded else [rows[0], [user(WIDE, QUESTION)]]
    noted = noting(fast, monkeypatch)
    batch = fast.chat_batch(rows, max_tokens=4)
    assert [len(logits) for logits in noted.first] == [2] * 4
    for row, messages in zip(batch, rows, strict=True):
        alone = fast.chat(messages, max_tokens=4)
        assert row.tokens == alone.tokens
        assert row.flops == alone.flops
    if padded:
        assert batch[1].tokens == vlm.chat(rows[1], max_tokens=4).tokens
        assert batch[1].flops == vlm.chat(rows[1], max_tokens=4).flops


# ---- transformers' own settings ----------------------------------------------------------------


def test_sampling_draws_from_the_contrasted_tokens(vlm: VLM) -> None:
    fast = vlm.using("damro", k=2, alpha=3.0, beta=0.5)

    def drawn(seed: int, **more: Any) -> tuple[int, ...]:
        seeded = fast.planned(replace(fast.plan, seed=seed))
        return seeded.ask(WIDE, QUESTION, max_tokens=STEPS, temperature=5.0, **more).tokens

    greedy = fast.ask(WIDE, QUESTION, max_tokens=STEPS, temperature=0).tokens
    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(4)}) > 1
    assert drawn(1, top_k=1) == greedy


def test_penalties_come_behind_the_contrast(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = vlm.using("damro", k=2)
    noted = noting(fast, monkeypatch)
    options = {"max_tokens": 3, "repetition_penalty": 30.0}
    answer = list(fast.ask(TALL, QUESTION, **options).tokens)  # type: ignore[arg-type]
    [prepared] = fast.prepare([[user(TALL, QUESTION)]])
    for step in (1, 2):
        expected = next_logits(vlm, prepared.prompt, answer[:step])
        torch.testing.assert_close(noted.first[step][0], expected, atol=1e-5, rtol=0)
    unpenalised = noted.mixed[1][0].clone()
    seen = unpenalised[answer[0]]
    unpenalised[answer[0]] = seen / 30 if seen > 0 else seen * 30
    assert answer[1] == int(unpenalised.argmax())


# ---- beside other systems ----------------------------------------------------------------------


def test_what_is_done_to_the_first_prompt_leaves_the_second_alone(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = vlm.using("damro", k=2)
    noted = noting(alone, monkeypatch)
    alone.ask(movie(), QUESTION, max_tokens=1)
    for name, knobs in (("fastervlm", {"keep": 0.5}), ("fastv", {"keep": 2, "layer": 2})):
        fast = vlm.using(name, **knobs)
        expected = noting_plain(fast)
        fast.using("damro", k=2).ask(movie(), QUESTION, max_tokens=1)
        assert torch.equal(noted.second[-1], noted.second[0])
        torch.testing.assert_close(noted.first[-1][0], expected, atol=1e-5, rtol=0)


def noting_plain(vlm: VLM) -> Tensor:
    """The logits of the first token under a plan without a second prompt."""

    @dataclass(frozen=True)
    class Listening:
        heard: list[Tensor]
        system_name = "listening"

        def against(self, tokens: VisualTokens) -> VisualTokens:
            return tokens

        def decoding(self, logits: Tensor, second: Tensor) -> Tensor:
            self.heard.append(logits[0].clone())
            return logits

    heard: list[Tensor] = []
    vlm.planned(vlm.plan.using(Listening(heard))).ask(movie(), QUESTION, max_tokens=1)
    return heard[0]


@dataclass(frozen=True)
class Twin:
    """The second prompt is the first."""

    gaps: list[float]
    system_name = "twin"

    def against(self, tokens: VisualTokens) -> VisualTokens:
        return tokens

    def decoding(self, logits: Tensor, second: Tensor) -> Tensor:
        self.gaps.append(float((logits - second).abs().max()))
        return logits


@pytest.mark.parametrize("recipe", [Qwen3Recipe, ClipOnevision])
def test_a_second_prompt_that_is_the_first_gives_its_logits(recipe: Any, tmp_path: Path) -> None:
    """With three axes of positions and features for the first layers too, and beside edits."""
    family = checkpoint(recipe(), tmp_path).family
    gaps: list[float] = []
    both = VLM(family, Plan(systems=(Twin(gaps),)))
    rows = [[user(WIDE, QUESTION)], [user(movie(), TALL, "what is the colour of the cat ?")]]
    both.chat_batch(rows, max_tokens=4)
    assert len(gaps) == 4
    assert max(gaps) < 1e-5
