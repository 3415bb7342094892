"""mini-rooms: mini, taught to answer questions about rooms that several cameras see.

    sparsight train recipes/mini_rooms.py --out out/mini-rooms
    sparsight world rooms --split test --side 112 --count 500 --out out/rooms
    sparsight compare --model out/mini-rooms/model --data out/rooms/conversations.jsonl \\
        --systems adatoken-3d --out out/rooms-compared

The views of a room are shown as pictures of one prompt, numbered as the questions number them.

Shape suffixes: B rooms, V views, N patches of a view, L sequence, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from embedded_data import MOST_TURNS, Turns, augment, pack_turns, to_pixels
from embedded_models import SIDE
from embedded_objectives import Ask, packed_logits, rights, several_tokens
from embedded_stages import READER, READER_MATRICES, SCALE, TOWER, TOWER_MATRICES, stage
from torch import Tensor
from torch.utils.data import Dataset

from sparsight.train.recipe import Recipe
from sparsight.world.space import Room, paint_room, room_questions, sample_room
from sparsight.world.tasks.question import Question

VIEWS = 16 * SCALE  # of a batch
ROOM_VIEWS = (2, 2, 3, 4, 4, 5, 6, 8)  # of a room, each as often
ROUNDS = 4  # in which a room is asked about whatever it can carry


@dataclass
class RoomBatch:
    """Rooms of as many views each, what is asked about them, packed by `turns` once a tokenizer
    is at hand, and the seed of the augmentation."""

    rooms: list[Room]
    asked: list[list[Question]]
    seed: int
    turns: Turns | None = None
    weights: dict[str, float] = field(default_factory=dict)


class Rooms(Dataset[RoomBatch]):
    """Batches without end: item i comes from rooms that no other item uses. Items 2i and 2i + 1
    have as many views, so that two processes need as long for a step."""

    def __getitem__(self, index: int) -> RoomBatch:
        views = int(np.random.default_rng([index // 2, 1]).choice(ROOM_VIEWS))
        rng = np.random.default_rng([index, 2])
        rooms = [
            sample_room(index * VIEWS + place, "train", views=views)
            for place in range(VIEWS // views)
        ]
        asked = []
        for room in rooms:
            found = [one for _ in range(ROUNDS) for one in room_questions(room, rng)]
            asked.append(list({one.text: one for one in found}.values())[:MOST_TURNS])
        return RoomBatch(rooms, asked, int(rng.integers(2**31)))


class AskAboutRooms(Ask):
    """`Ask` about the views of rooms: from the answers alone."""

    def prepare(self, item: Any) -> Any:
        return replace(item, turns=pack_turns(self.parts.tokenizer, item.asked, item.weights))

    def collate(self, samples: Sequence[Any]) -> Any:
        (batch,) = samples
        return batch

    def forward(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, int]]]:
        model, device = self.parts.model, self.parts.device
        turns = batch.turns.to(device)
        seen, _ = self.reader.see(model, painted(batch, device))
        visual = several_tokens(model, seen, len(batch.rooms[0].eyes))
        logits, labels, weight, *_ = packed_logits(model, self.prefix, visual, turns)
        answer = F.cross_entropy(logits, labels, reduction="none")
        right = rights(batch.asked, turns, logits.argmax(-1) == labels)
        return {"answer": (answer * weight).sum() / weight.sum().clamp(min=1e-6)}, right


@torch.no_grad()
def painted(batch: RoomBatch, device: torch.device) -> Tensor:
    """The views of all rooms (V, 3, S, S), in full precision whatever the training's."""
    with torch.autocast(device.type, enabled=False):
        frames = [paint_room(room, SIDE, device).frames for room in batch.rooms]
        views = [len(room.eyes) for room in batch.rooms]
        return augment(to_pixels(torch.cat(frames)), views, batch.seed)


def recipe() -> Recipe:
    rooms = stage(
        "rooms",
        data=Rooms,
        objective=AskAboutRooms,
        train=(*TOWER, *READER),
        rates={"model.vision_tower.*": 3e-4, "*": 1e-3},
        muon=(*TOWER_MATRICES, *READER_MATRICES),
        steps=1500,
        floor=0.01,
        save_every=200,
    )
    return Recipe("mini-rooms", "mini", (rooms,))
