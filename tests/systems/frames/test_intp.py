from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.llm.rope import frequencies, rotating
from sparsight.ops.rope import base_changed
from sparsight.vlm.pipeline import VLM
from tests.vlm.tiny import FAMILIES, checkpoint, film, user

assert FAMILIES  # the families' tests import each other by bare names
from test_llava import LlavaRecipe  # noqa: E402
from test_qwen2_vl import Qwen2Recipe  # noqa: E402

QUESTION = "what is in it ?"


def movie(frames: int) -> Clip:
    return Clip.from_frames(film(24, 24, 1, frames=frames), fps=2.0, origin="film")


def request(frames: int = 8, together: int = 1) -> Request:
    return Request("", torch.zeros(0, 4), 1, frames=frames, together=together)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type], VLM]:
    made: dict[type, VLM] = {}

    def get(recipe: type) -> VLM:
        if recipe not in made:
            with pytest.MonkeyPatch.context() as patch:  # their processor is not needed here
                patch.setattr(recipe, "processor", lambda *_: None)
                folder = tmp_path_factory.mktemp(recipe.__name__)
                made[recipe] = VLM(checkpoint(recipe(), folder).family, Plan("tiny"))
        return made[recipe]

    return get


# ---- frames --------------------------------------------------------------------------------------


def test_several_times_the_usual_frames_are_taken() -> None:
    system = build("intp", {})
    assert len(system.select(movie(200), request())) == 32
    assert len(system.select(movie(200), request(frames=4))) == 16
    assert len(build("intp", {"frames": 6, "clips": 2}).select(movie(200), request())) == 12


def test_a_short_film_is_cut_into_fewer_sub_clips() -> None:
    system = build("intp", {})
    for frames, taken in ((31, 24), (16, 16), (15, 8), (8, 8), (5, 5), (1, 1)):
        chosen = system.select(movie(frames), request())
        assert len(chosen) == taken
        assert chosen == sorted(chosen)


def test_frames_of_a_sub_clip_stand_side_by_side_for_a_tower_that_joins_them() -> None:
    system = build("intp", {"clips": 2, "frames": 4})
    assert system.select(movie(8), request(together=2)) == [0, 2, 1, 3, 4, 6, 5, 7]
    block = build("intp", {"clips": 2, "frames": 4, "split": "block"})
    assert block.select(movie(8), request(together=2)) == list(range(8))


def test_a_brief_event_is_found_more_often() -> None:
    found = {1: 0, 4: 0}
    for clips in found:
        chosen = set(build("intp", {"clips": clips}).select(movie(160), request()))
        found[clips] = sum(bool(chosen & set(range(at, at + 4))) for at in range(156))
    assert found[4] > 2 * found[1]


@torch.inference_mode()
def features(vlm: VLM, clip: Clip, frames: list[int]) -> Tensor:
    views = vlm.views(clip, frames, clip.frames(frames), 0)
    [made] = vlm.family.project(vlm.family.encode([vlm._on_device(views)]))
    return made.features


def test_each_sub_clip_is_encoded_as_by_itself(models) -> None:
    vlm, clip = models(Qwen2Recipe), movie(8)
    assert vlm.family.together == 2
    order = build("intp", {"clips": 2, "frames": 4}).select(clip, request(together=2))
    together = features(vlm, clip, order)
    for j in range(2):
        alone = features(vlm, clip, list(range(j, 8, 2)))
        torch.testing.assert_close(together[j::2], alone, atol=1e-5, rtol=1e-5)
    plain = features(vlm, clip, list(range(8)))
    assert not torch.allclose(plain, together, atol=1e-3)  # which neighbours in time are not


def test_a_tower_that_reads_frame_by_frame_sees_no_difference(models) -> None:
    vlm = models(LlavaRecipe)
    assert (vlm.family.together, vlm.family.frames) == (1, 4)
    with torch.inference_mode():
        fast = vlm.using("intp", clips=2, bits=16)
        ours = fast.prepare([[user(movie(8), QUESTION)]])[0].prompt
        theirs = vlm.prepare([[user(movie(8), QUESTION)]], frames="uniform:8")[0].prompt
    assert torch.equal(ours.embeds, theirs.embeds)
    assert torch.equal(ours.positions, theirs.positions)


# ---- positions -----------------------------------------------------------------------------------


def test_positions_are_stretched_as_far_as_is_needed_and_no_further() -> None:
    inverse, system = 10000.0 ** (-torch.arange(0, 16, 2) / 16), build("intp", {})
    assert system.frequencies(inverse, 512, 512) is inverse
    assert torch.equal(system.frequencies(inverse, 2048, 512), base_changed(inverse, 4.0))
    linear = build("intp", {"rope": "linear"})
    assert torch.equal(linear.frequencies(inverse, 2048, 512), inverse / 4)
    fixed = build("intp", {"stretch": 2.0})
    assert torch.equal(fixed.frequencies(inverse, 100, 512), base_changed(inverse, 2.0))
    with pytest.raises(UserError, match="stretch=2 makes 512 into 1024"):
        fixed.frequencies(inverse, 1025, 512)
    with pytest.raises(UserError, match="stretch must be 1 or more"):
        build("intp", {"stretch": 0.5})


@pytest.mark.parametrize("recipe", [LlavaRecipe, Qwen2Recipe])
def test_a_prompt_beyond_what_the_model_was_trained_on_is_answered(
    models, recipe: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = models(recipe)
    long, short = user(movie(16), QUESTION), user("cat")
    with torch.inference_mode():
        room = int(vlm.prepare([[short]])[0].prompt.positions.max()) + 5
    monkeypatch.setattr(vlm.family.decoder.config, "max_position_embeddings", room)
    inverse = frequencies(vlm.family.decoder)
    with pytest.raises(UserError, match=f"but the model has {room}"):
        vlm.ask(movie(16), QUESTION, frames="uniform:16", max_tokens=4)
    fast = vlm.using("intp", frames=8, clips=2, bits=16)
    both = fast.chat_batch([[long], [short]], max_tokens=4)
    assert frequencies(vlm.family.decoder) is inverse
    assert both[0].tokens == fast.chat([long], max_tokens=4).tokens
    # What fits is answered as without, beside whatever it stands in a batch.
    assert both[1].tokens == vlm.chat([short], max_tokens=4).tokens


def needle_model() -> Any:
    """One layer in which the last token looks for what is marked; trained, so to say, on 64
    positions: the frequency it matches by has then turned by one radian."""
    rope = {"rope_type": "default", "rope_theta": 64.0 ** (16 / 14)}
    config = LlamaConfig(
        hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, vocab_size=4, max_position_embeddings=64, rope_parameters=rope,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        attention = model.model.layers[0].self_attn
        attention.q_proj.weight[7, 0] = attention.k_proj.weight[7, 1] = 8.0
        for color in range(4):
            attention.v_proj.weight[color, 2 + color] = 1.0
            attention.o_proj.weight[8 + color, color] = 1.0
            model.lm_head.weight[color, 8 + color] = 1.0
    return model


def test_a_needle_far_back_is_found_once_positions_are_stretched() -> None:
    model, length = needle_model(), 256
    inverse = frequencies(model.model)
    found = {"none": 0, "ntk": 0, "linear": 0}
    for place in range(0, 250, 10):
        color = place // 10 % 4
        embeds = torch.zeros(1, length, 16)
        embeds[0, torch.arange(length), 2 + torch.randint(4, (length,))] = 1.0
        embeds[0, place, 2:6], embeds[0, place, 1] = 0.0, 1.0
        embeds[0, place, 2 + color] = 1.0
        embeds[0, -1, 2:6], embeds[0, -1, 0] = 0.0, 1.0
        embeds[..., 15] = (16 - embeds.square().sum(-1)).sqrt()  # all of one norm
        for name in found:
            system = build("intp", {"rope": name if name != "none" else "ntk"})
            needed = 64 if name == "none" else length
            with (
                torch.no_grad(),
                rotating(model.model, system.frequencies(inverse, needed, 64)[None]),
            ):
                logits = model(inputs_embeds=embeds).logits[0, -1]
            found[name] += int(logits.argmax() == color)
    assert found["ntk"] == found["linear"] == 25
    assert found["none"] < 15


# ---- the cache -----------------------------------------------------------------------------------


def test_fewer_bits_are_held(models) -> None:
    vlm = models(LlavaRecipe)
    held = {
        bits: vlm.using("intp", clips=2, bits=bits, group=8, window=8)
        .ask(movie(8), QUESTION, max_tokens=2)
        .kv_bytes
        for bits in (2, 4, 8, 16)
    }
    assert held[2] < held[4] < held[8] < held[16]
    plain = vlm.ask(movie(8), QUESTION, frames="uniform:8", max_tokens=2)
    assert held[16] == plain.kv_bytes
