"""mini-rooms' recipe shows rooms as inference does, and asks what they can answer."""

from __future__ import annotations

import re

import mini_rooms
import pytest
import torch
from embedded_data import to_pixels
from embedded_models import SIDE, build_network, build_tokenizer, processor_files
from embedded_objectives import see, several_tokens
from mini_rooms import AskAboutRooms, Rooms, painted

from sparsight.train.objective import Learner
from sparsight.train.parameters import choose
from sparsight.train.parts import Parts
from sparsight.world.space import paint_room


@pytest.fixture(scope="module")
def parts() -> Parts:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(scenes=60)
    return Parts(build_network(tokenizer, "clip").eval(), tokenizer, processor_files("clip"))


def test_the_views_are_the_pictures_of_one_prompt(parts: Parts) -> None:
    room = Rooms()[0].rooms[0]
    frames = paint_room(room, SIDE).frames
    with torch.inference_mode():
        ours = several_tokens(parts.model, see(parts.model, to_pixels(frames))[0], len(room.eyes))
        family = parts.family
        views = [family.picture_views(frame, alone=False) for frame in frames]
        maps = family.project(family.encode(views))
        theirs = torch.cat([family.pack(item).embeds for item in maps])
    torch.testing.assert_close(ours[0], theirs, atol=1e-4, rtol=1e-4)


def test_a_batch_follows_from_its_number_and_its_neighbour_takes_as_long() -> None:
    one, again, other = Rooms()[4], Rooms()[4], Rooms()[5]
    assert (one.rooms, one.asked, one.seed) == (again.rooms, again.asked, again.seed)
    assert {len(room.eyes) for room in (*one.rooms, *other.rooms)} == {len(one.rooms[0].eyes)}
    assert not {room.seed for room in one.rooms} & {room.seed for room in other.rooms}


def test_questions_differ_and_name_views_that_are_there() -> None:
    batch = Rooms()[2]
    for room, asked in zip(batch.rooms, batch.asked, strict=True):
        texts = [question.text for question in asked]
        assert len(set(texts)) == len(texts) > 1
        named = [int(n) for text in texts for n in re.findall(r"view (\d+)", text)]
        assert all(1 <= view <= len(room.eyes) for view in named)


def test_tower_and_llm_learn_from_the_answers(parts: Parts) -> None:
    objective = AskAboutRooms(parts)
    batch = objective.collate([objective.prepare(Rooms()[1])])
    assert painted(batch, parts.device).shape[1:] == (3, SIDE, SIDE)
    losses, right = objective(batch)
    losses["answer"].backward()
    assert torch.isfinite(losses["answer"])
    assert sum(count for _, count in right.values()) == sum(map(len, batch.asked))
    for part in (parts.model.model.vision_tower, parts.model.model.language_model):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_the_stage_names_parameters_that_are_there(parts: Parts) -> None:
    (stage,) = mini_rooms.recipe().stages
    assert choose(Learner(stage.objective(parts)), stage.train, stage.name)
