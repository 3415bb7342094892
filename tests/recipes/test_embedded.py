"""The embedded models' recipes compute what the class computes, from labels that are true."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby

import embedded_objectives
import numpy as np
import pytest
import torch
from embedded_attention import Packing
from embedded_data import Batch, Layout, Mix, Scenes, pack_turns, to_pixels
from embedded_labels import CHARACTERS, KINDS, MOTIONS, cells, patches, tables
from embedded_models import (
    GRID,
    PREFIX,
    SIDE,
    TURN,
    adopt,
    build_network,
    build_tokenizer,
    processor_files,
)
from embedded_objectives import (
    Ask,
    Look,
    Shows,
    film_tokens,
    packed_logits,
    picture_tokens,
    pointing,
    rights,
    see,
    several_tokens,
)
from embedded_views import shown

from sparsight.train.parts import Parts
from sparsight.world.paint import paint_batch
from sparsight.world.tasks.question import Question

LAYOUTS = {
    "picture": Layout("picture", 2),
    "large picture": Layout("picture", 2, side=224),
    "pair": Layout("pair", 2),
    "film": Layout("film", 2, frames=4),
    "one frame": Layout("film", 3),
}
MIX = Mix({}, {"color": 1.0, "count": 1.0, "read": 1.0}, {"move": 1.0, "repeat": 1.0}, {})


@pytest.fixture(scope="module", params=["clip", "siglip"])
def parts(request) -> Parts:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(scenes=60)
    network = build_network(tokenizer, request.param).eval()
    return Parts(network, tokenizer, processor_files(request.param))


def batch_of(layout: Layout, parts: Parts) -> Batch:
    batch = Scenes(replace(MIX, layouts={layout: 1.0}), first_seed=0)[0]
    return replace(batch, turns=pack_turns(parts.tokenizer, batch.asked, {}))


def test_a_tower_without_cls_adopts_all_but_what_cls_brings():
    tokenizer = build_tokenizer(scenes=60)
    trained, mine = (
        Parts(build_network(tokenizer, kind), tokenizer) for kind in ("clip", "siglip")
    )
    theirs, ours = trained.model.state_dict(), adopt(mine, trained).model.state_dict()
    places = "model.vision_tower.embeddings.position_embedding.weight"
    assert torch.equal(ours.pop(places), theirs[places][1:])
    for table in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        known = len(tokenizer)  # the rest of the rows stands for nothing
        assert torch.equal(ours.pop(table)[:known], theirs[table][:known])
    assert set(ours) - set(theirs) == {"model.vision_tower.embeddings.patch_embedding.bias"}
    assert all(torch.equal(ours[name], theirs[name]) for name in set(ours) & set(theirs))


@pytest.mark.parametrize("name", LAYOUTS)
def test_packed_questions_get_the_logits_of_single_prompts_through_the_family(
    name, parts, monkeypatch
):
    # An untrained network makes much of a grey level that rounding moves.
    monkeypatch.setattr(embedded_objectives, "thumbnail", lambda p: exact_thumbnails(parts, p))
    batch = batch_of(LAYOUTS[name], parts)
    pixels = to_pixels(paint_batch(batch.shots, batch.layout.side).frames)
    model = parts.model
    with torch.no_grad():
        if batch.layout.kind == "film":
            visual = film_tokens(model, see(model, pixels)[0], len(batch.shots))
        elif batch.layout.kind == "pair":
            visual = several_tokens(model, see(model, pixels)[0], 2)
        else:
            visual = picture_tokens(model, pixels)[2]
        prefix = torch.tensor(parts.tokenizer.encode(PREFIX))
        logits, labels, *_ = packed_logits(model, prefix, visual, batch.turns)
        start = 0
        for sample in range(len(batch.asked)):
            for turn, question in enumerate(batch.asked[sample]):
                mine = (batch.turns.turn[sample] == turn) & (batch.turns.labels[sample] != -100)
                count = int(mine.sum())
                packed = logits[start : start + count]
                start += count
                if turn > 1:
                    continue
                embeds, answer = alone(parts, batch, pixels, sample, question)
                out = model(inputs_embeds=embeds[None]).logits[0, -count - 1 : -1]
                assert labels[start - count : start].tolist() == answer
                torch.testing.assert_close(packed, out, atol=2e-3, rtol=2e-3)
    assert start == len(labels)


def exact_thumbnails(parts, pixels):
    views = [parts.family.picture_views(frame, alone=True) for frame in to_frames(pixels)]
    return torch.stack([view.inputs["pixel_values"][0] for view in views])


def test_thumbnails_are_the_processors_within_a_grey_level(parts):
    batch = batch_of(LAYOUTS["large picture"], parts)
    pixels = to_pixels(paint_batch(batch.shots, batch.layout.side).frames)
    error = embedded_objectives.thumbnail(pixels) - exact_thumbnails(parts, pixels)
    assert error.abs().max() <= 1.5 / 127.5


def to_frames(pixels):
    return ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def alone(parts, batch, pixels, sample, question):
    """One question as inference asks it: through the family's views, tower and packing."""
    from sparsight.core.clip import Clip
    from sparsight.core.plan import Plan
    from sparsight.vlm.pipeline import VLM

    frames = to_frames(pixels)
    views = batch.layout.frames
    if batch.layout.kind == "pair":
        clips = [Clip.from_picture(frames[2 * sample + i]) for i in range(2)]
    elif batch.layout.kind == "film":
        clips = [Clip.from_frames(frames[sample * views : (sample + 1) * views], fps=2.0)]
    else:
        clips = [Clip.from_picture(frames[sample])]
    content = [{"type": "image", "image": clip} for clip in clips]
    content.append({"type": "text", "text": question.text})
    vlm = VLM(parts.family, Plan(model="mini"))
    prompt = vlm.prepare([[{"role": "user", "content": content}]], frames="all")[0].prompt
    answer = parts.tokenizer.encode(f"{question.answer}<|im_end|>")
    more = parts.model.get_input_embeddings()(torch.tensor(answer))
    return torch.cat((prompt.embeds, more)), answer


def test_a_question_is_right_when_every_token_of_its_answer_is(parts):
    batch = batch_of(LAYOUTS["film"], parts)
    turns = batch.turns
    answers = turns.labels != -100
    hits = torch.ones(int(answers.sum()), dtype=torch.bool)
    found = rights(batch.asked, turns, hits)
    asked = Counter(question.task for row in batch.asked for question in row)
    assert {name: count for name, (_, count) in found.items()} == {
        f"right, {task}": count for task, count in asked.items()
    }
    assert all(total == count for total, count in found.values())

    last = turns.turn[-1].max()  # one token of the last question about the last sample is wrong
    place = torch.zeros_like(answers)
    place[-1] = answers[-1] & (turns.turn[-1] == last)
    hits[int(torch.nonzero(place[answers])[0])] = False
    total, count = rights(batch.asked, turns, hits)[f"right, {batch.asked[-1][last].task}"]
    assert total == count - 1


def test_pointing_is_lost_by_looking_elsewhere_than_at_what_is_asked_about():
    tokenizer = build_tokenizer(scenes=60)
    asked = [
        [Question("color", "What color is the circle?", "red", about=(0,))],
        [Question("count", "How many?", "2"), Question("where", "Where?", "left", about=(1, 7))],
    ]
    turns = pack_turns(tokenizer, asked, {})
    owner = torch.tensor([[0, 0, 1, -1], [-1, 1, 0, -1]])
    spelled = torch.zeros(len(tokenizer), dtype=torch.long)
    places = Packing.of(0, turns.turn, turns.position).places

    def lost(first: list[float], second: list[float]) -> float:
        looks = torch.zeros(*places.shape, 4)
        looks[0, 0], looks[1, 1] = torch.tensor(first), torch.tensor(second)
        return float(pointing(looks, turns, asked, Shows(owner, owner * 0), spelled))

    assert lost([0.5, 0.5, 0, 0], [0, 1, 0, 0]) == 0
    assert lost([0.25, 0.25, 0.5, 0], [0, 1, 0, 0]) > 0
    assert lost([0.5, 0.5, 0, 0], [0, 0, 1, 0]) > 2


def test_what_is_read_is_pointed_at_character_by_character(parts):
    asked = [[Question("read", "Read the sign.", "A7", about=(0,))]]
    turns = pack_turns(parts.tokenizer, asked, {})
    spelled = Ask(parts).spelled
    shows = Shows(
        torch.tensor([[0, 0, 0, -1]]),
        torch.tensor([[CHARACTERS.index("A") + 1, CHARACTERS.index("7") + 1, 0, 0]]),
    )
    looks = torch.zeros(1, 1, Packing.of(0, turns.turn, turns.position).places.shape[2], 4)
    ends = torch.nonzero(turns.labels[0] != -100)[:, 0]
    looks[0, 0, ends[0] - 1, 0] = 1  # before "A" at A, before "7" at 7, then anywhere on the sign
    looks[0, 0, ends[1] - 1, 1] = 1
    looks[0, 0, ends[2] - 1, 2] = 1
    assert pointing(looks, turns, asked, shows, spelled) == 0
    looks[0, 0, ends[1] - 1] = looks[0, 0, ends[0] - 1]
    assert pointing(looks, turns, asked, shows, spelled) > 2


@pytest.mark.parametrize("tiles", [1, 2])
def test_tokens_of_pictures_are_owned_by_what_they_show(tiles, parts):
    batch = batch_of(Layout("picture", 2, side=tiles * SIDE), parts)
    view = shown(batch, torch.device("cpu"))
    with torch.no_grad():
        _, _, visual = picture_tokens(parts.model, view.pixels)
    owner = Shows.of_pictures(view.owners, view.truth, tiles).owner
    assert owner.shape == visual.shape[:2]
    fine = owner[:, GRID * GRID :].unflatten(1, (GRID * tiles, GRID * tiles + 1))
    assert (fine[..., -1] == -1).all()  # newlines
    assert torch.equal(
        fine[..., :-1].flatten(1), patches(view.owners, view.truth, GRID * tiles).owner
    )
    # A thumbnail shows what the tiles show.
    both = fine[:, ::tiles, :-1:tiles].flatten(1) == owner[:, : GRID * GRID]
    assert both.float().mean() > 0.9


def test_the_chat_template_writes_what_training_packs(parts):
    message = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Why?"}]}]
    text = parts.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    assert text == PREFIX + "<video>" + TURN.format("Why?")


def test_signs_are_spelled():
    tokenizer = build_tokenizer(scenes=400)
    for text in ("TZ", "X38", "HHX"):
        assert [tokenizer.decode(x) for x in tokenizer.encode(text)] == list(text)
    assert len(tokenizer.encode(" letter T?")) == 3


def test_any_text_comes_back_from_the_tokenizer(parts):
    text = "Which comes first, 12.5 or ¿Ω?\n"
    assert parts.tokenizer.decode(parts.tokenizer.encode(text)) == text


def test_patches_lie_on_the_things_they_are_said_to_show():
    batch = Scenes(replace(MIX, layouts={Layout("view", 24): 1.0}), first_seed=5, asking=False)[0]
    painted = paint_batch(batch.shots, SIDE)
    truth = patches(painted.owners, tables(batch.shots), GRID)
    for view, (scene, times) in enumerate(batch.shots):
        shown = {int(i) for i in truth.kind[view].unique()} - {0}
        there = {
            KINDS.index("sign") if thing.look.kind == "sign" else KINDS.index(thing.look.noun)
            for thing in scene.things
            if thing.look.kind != "sprite" and thing.visible(times).any()
        }
        assert shown <= {kind + 1 for kind in there}
        assert truth.owner[view].max() < len(scene.things)
    assert (truth.kind > 0).float().mean() > 0.02


def test_moving_things_are_labelled_with_the_way_they_move():
    batch = Scenes(
        Mix({Layout("film", 8, frames=8): 1.0}, {}, {"move": 1.0}, {}), first_seed=5, asking=False
    )[0]
    truth = tables(batch.shots)
    dense = cells(paint_batch(batch.shots, SIDE).owners, truth, GRID // 2)
    view = 0
    told = 0
    for scene, times in batch.shots:
        for event in (e for e in scene.events if e.action == "move"):
            middle = view + int(np.abs(times - (event.start + event.end) / 2).argmin())
            if times[middle - view] <= event.start or times[middle - view] >= event.end:
                continue
            here = dense.owner[middle] == event.thing
            if here.any():
                told += 1
                wanted = MOTIONS.index(event.detail) + 1
                assert (dense.motion[middle][here] == wanted).all()
        view += len(times)
    assert told >= 4


@pytest.mark.parametrize("objective", [Look, Ask])
def test_an_objective_gives_finite_losses_that_reach_what_learns(objective, parts):
    learner = objective(parts)
    layout = Layout("view", 4) if objective is Look else LAYOUTS["film"]
    data = Scenes(replace(MIX, layouts={layout: 1.0}), 0, asking=objective is Ask)
    out = learner(learner.collate([learner.prepare(data[0])]))
    losses = out[0] if isinstance(out, tuple) else out
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.parameters())
    tower = parts.model.model.vision_tower.parameters()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tower)
    parts.model.zero_grad()


def test_a_batch_is_a_function_of_its_number():
    data = Scenes(replace(MIX, layouts=dict.fromkeys(LAYOUTS.values(), 1.0)), first_seed=0)
    again = Scenes(replace(MIX, layouts=dict.fromkeys(LAYOUTS.values(), 1.0)), first_seed=0)
    for number in (3, 0, 7):
        assert data[number].asked == again[number].asked
        assert [s.seed for s, _ in data[number].shots] == [s.seed for s, _ in again[number].shots]
    seeds = [s.seed for number in range(6) for s, _ in data[number].shots]
    assert len(set(seeds)) == len(seeds)


def test_patches_of_a_sign_spell_its_text_from_left_to_right():
    mix = Mix({Layout("view", 8): 1.0}, {"read": 1.0}, {}, {})
    batch = Scenes(mix, first_seed=5, asking=False)[0]
    truth = patches(paint_batch(batch.shots, SIDE).owners, tables(batch.shots), GRID)
    spelled = 0
    for view, (scene, _) in enumerate(batch.shots):
        for k, thing in enumerate(scene.things):
            if thing.look.kind != "sign" or thing.height < 0.15:
                continue
            row = truth.character[view].where(truth.owner[view] == k, 0).view(GRID, GRID).amax(0)
            text = "".join(CHARACTERS[code - 1] for code in row[row > 0].unique_consecutive())
            spelled += 1
            # Doubled letters share one stretch.
            assert text == "".join(letter for letter, _ in groupby(thing.look.name.upper()))
    assert spelled >= 3


def test_a_view_cut_from_a_larger_picture_keeps_pixels_owners_and_boxes_together():
    mix = Mix({Layout("view", 12, side=2 * SIDE): 1.0}, {"color": 1.0, "count": 1.0}, {}, {})
    batch = Scenes(mix, first_seed=9, asking=False)[0]
    view = shown(batch, torch.device("cpu"))
    assert view.pixels.shape[1:] == (3, SIDE, SIDE)
    checked = 0
    for owners, boxes in zip(view.owners, view.truth.box, strict=True):
        for k in range(boxes.shape[0]):
            mine = (owners == k + 1).nonzero()
            x0, y0, x1, y1 = (boxes[k] * SIDE).tolist()
            if len(mine) < 40 or min(x0, y0) < 0 or max(x1, y1) > SIDE:
                continue
            (top, left), (bottom, right) = mine.amin(0).tolist(), mine.amax(0).tolist()
            checked += 1
            assert x0 - 2 <= left
            assert right <= x1 + 2
            assert y0 - 2 <= top
            assert bottom <= y1 + 2
    assert checked >= 5


def test_labels_are_as_exact_under_autocast():
    batch = Scenes(replace(MIX, layouts={Layout("view", 4): 1.0}), first_seed=1, asking=False)[0]
    plain = shown(batch, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        cast = shown(batch, torch.device("cpu"))
        center = patches(cast.owners, cast.truth, GRID).center
    assert torch.equal(plain.pixels, cast.pixels)
    assert torch.equal(patches(plain.owners, plain.truth, GRID).center, center)
