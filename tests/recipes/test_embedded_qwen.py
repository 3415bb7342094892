"""mini-qwen's recipe computes what the class computes, and trains by the common stages."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from embedded_data import Batch, Layout, Mix, Scenes, pack_turns, to_pixels
from embedded_models import PREFIX, TURN, adopt, build_tokenizer
from embedded_models import build_network as build_onevision
from embedded_objectives import packed_logits
from embedded_qwen import (
    QwenAsk,
    QwenLook,
    QwenReader,
    build_network,
    here,
    processor_files,
    qwen_tokenizer,
)
from embedded_stages import STAGES

from sparsight.core.clip import Clip
from sparsight.core.plan import Plan
from sparsight.train.objective import Learner
from sparsight.train.parameters import choose
from sparsight.train.parts import Parts
from sparsight.vlm.pipeline import VLM
from sparsight.world.paint import paint_batch

LAYOUTS = {
    "picture": Layout("picture", 2),
    "large picture": Layout("picture", 2, side=224),
    "pair": Layout("pair", 2),
    "film": Layout("film", 2, frames=4),
    "film of one frame": Layout("film", 2),
    "film of more times than rows": Layout("film", 2, frames=24),
}
MIX = Mix({}, {"color": 1.0, "count": 1.0, "read": 1.0}, {"move": 1.0, "repeat": 1.0}, {})


@pytest.fixture(scope="module")
def parts() -> Parts:
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer(scenes=60)
    return Parts(build_network(tokenizer).eval(), tokenizer, processor_files())


def batch_of(layout: Layout, parts: Parts) -> Batch:
    batch = Scenes(replace(MIX, layouts={layout: 1.0}), first_seed=0)[0]
    return replace(batch, turns=pack_turns(parts.tokenizer, batch.asked, {}))


def test_a_trained_llm_is_adopted_token_by_token(parts):
    tokenizer = build_tokenizer(scenes=60)
    trained = Parts(build_onevision(tokenizer, "clip"), tokenizer)
    mine = adopt(copy.deepcopy(parts), trained)
    llm, theirs = mine.model.model.language_model, trained.model.model.language_model
    for one, other in zip(llm.layers.parameters(), theirs.layers.parameters(), strict=True):
        assert torch.equal(one, other)
    for text in ("red", " circle", "<|im_end|>", "7"):
        (here,), (there,) = mine.tokenizer.encode(text), tokenizer.encode(text)
        assert torch.equal(llm.embed_tokens.weight[here], theirs.embed_tokens.weight[there])
    assert mine.model.lm_head.weight is llm.embed_tokens.weight  # still tied


@pytest.mark.parametrize("name", LAYOUTS)
def test_packed_questions_get_the_logits_of_single_prompts_through_the_family(name, parts):
    batch = batch_of(LAYOUTS[name], parts)
    frames = paint_batch(batch.shots, batch.layout.side).frames
    prefix = torch.tensor(parts.tokenizer.encode(PREFIX))
    with torch.no_grad():
        media = QwenReader().read(parts.model, to_pixels(frames), batch.layout, len(prefix))
        logits, labels, *_ = packed_logits(
            parts.model, prefix, media.visual, batch.turns, media.places
        )
        start = 0
        for sample in range(len(batch.asked)):
            for turn, question in enumerate(batch.asked[sample]):
                mine = (batch.turns.turn[sample] == turn) & (batch.turns.labels[sample] != -100)
                count = int(mine.sum())
                packed = logits[start : start + count]
                start += count
                if turn > 1:
                    continue
                expected, answer = alone(parts, batch.layout, frames, sample, question)
                assert labels[start - count : start].tolist() == answer
                torch.testing.assert_close(packed, expected, atol=2e-3, rtol=2e-3)
    assert start == len(labels)


def alone(parts, layout, frames, sample, question):
    """One question as inference asks it, through the family: the answer's logits and tokens."""
    shown = 2 if layout.kind == "pair" else layout.frames
    mine = frames[sample * shown : (sample + 1) * shown]
    if layout.kind == "film":
        clips = [Clip.from_frames(mine, fps=2.0)]
    else:
        clips = [Clip.from_picture(frame) for frame in mine]
    content = [{"type": "image", "image": clip} for clip in clips]
    content.append({"type": "text", "text": question.text})
    vlm = VLM(parts.family, Plan(model="mini-qwen"))
    prompt = vlm.prepare([[{"role": "user", "content": content}]], frames="all")[0].prompt
    answer = parts.tokenizer.encode(f"{question.answer}<|im_end|>")
    more = parts.model.get_input_embeddings()(torch.tensor(answer))
    behind = prompt.positions[:, -1:] + 1 + torch.arange(len(answer))
    out = parts.model(
        inputs_embeds=torch.cat((prompt.embeds, more))[None],
        position_ids=torch.cat((prompt.positions, behind), 1)[:, None],
    )
    return out.logits[0, -len(answer) - 1 : -1], answer


def test_a_pair_of_frames_is_8_x_8_tokens(parts):
    views = parts.family.film_views(torch.zeros(4, 112, 112, 3, dtype=torch.uint8), range(4), 4.0)
    assert (len(views), views.grid) == (2, (8, 8))


def test_seen_patches_lie_in_rows(parts, monkeypatch):
    pixels = torch.zeros(1, 3, 112, 112)
    other = pixels.clone()
    other[..., 21:28, 70:77] = 1.0  # the patch in row 3 and column 10
    tower = parts.model.model.visual
    monkeypatch.setitem(tower._modules, "blocks", torch.nn.ModuleList())  # patches stay apart
    with torch.no_grad():
        seen = [QwenReader().see(parts.model, shown)[0] for shown in (pixels, other)]
    assert (seen[0] != seen[1]).any(-1)[0].nonzero().tolist() == [[3 * 16 + 10]]


def test_the_chat_template_writes_what_training_packs(parts):
    message = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Why?"}]}]
    text = parts.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    assert text == PREFIX + "<|vision_start|><|video_pad|><|vision_end|>" + TURN.format("Why?")


@pytest.mark.parametrize("name", ["view", *LAYOUTS])
def test_an_objective_gives_finite_losses_that_reach_what_learns(name, parts):
    looks = name == "view"
    learner = (QwenLook if looks else QwenAsk)(parts)
    layout = Layout("view", 4) if looks else LAYOUTS[name]
    data = Scenes(replace(MIX, layouts={layout: 1.0}), 0, asking=not looks)
    out = learner(learner.collate([learner.prepare(data[0])]))
    losses = out if looks else out[0]
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    learning = [parts.model.model.visual.blocks]
    if not looks:
        assert ("watch" in losses) == name.startswith("film")
        learning += [parts.model.model.visual.merger, parts.model.model.language_model]
    for module in learning:
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    parts.model.zero_grad()


def test_every_stage_names_parameters_that_are_there(parts):
    try:
        for stage in here(STAGES):
            assert choose(Learner(stage.objective(parts)), stage.train, stage.name)
    finally:
        parts.model.requires_grad_(True)
