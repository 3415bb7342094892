"""What was encoded before is not encoded again, and nothing else changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from sparsight.core.clip import Clip
from sparsight.core.reply import Reply
from sparsight.core.slots import Need
from sparsight.core.tokens import Views
from sparsight.vlm.encoded import Encoded, digest
from sparsight.vlm.pipeline import VLM

ROOM = 1 << 26


def film(seed: int, frames: int = 3) -> Clip:
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (frames, 40, 40, 3), dtype=torch.uint8, generator=random)
    return Clip.from_frames(pixels, fps=1.0)


@contextmanager
def views_of(vlm: VLM) -> Iterator[list[int]]:
    """Counts the views that pass the tower."""
    counts: list[int] = []
    tower = vlm.family.tower("video")
    hook = tower.register_forward_hook(lambda _, given, out: counts.append(len(out[0])))
    try:
        yield counts
    finally:
        hook.remove()


def ask(vlm: VLM, *seeds: int) -> list[Reply]:
    conversations = [
        [{"role": "user", "content": [{"type": "video", "video": film(seed)},
                                      {"type": "text", "text": "What happens?"}]}]
        for seed in seeds
    ]  # fmt: skip
    return vlm.chat_batch(conversations, frames="all", max_tokens=4, temperature=0)


def test_many_plans_encode_a_medium_once(vlm: VLM):
    known = vlm.remembering(ROOM)
    plans = [known, known.using("pool", keep=0.5), known.using("uniform", keep=0.25)]
    with views_of(vlm) as counts:
        found = [ask(plan, 1)[0] for plan in (*plans, *plans)]
    assert counts == [3]
    fresh = [ask(VLM(vlm.family, plan.plan), 1)[0] for plan in plans]
    for reply, again, alone in zip(found[:3], found[3:], fresh, strict=True):
        assert reply.tokens == again.tokens == alone.tokens
        assert reply.usage == again.usage == alone.usage
        assert reply.flops == again.flops == alone.flops  # the formula knows of no memory


def test_seconds_are_those_of_encoding(vlm: VLM):
    known = vlm.remembering(ROOM)
    first, again = ask(known, 2)[0].timing, ask(known, 2)[0].timing
    assert again.stages["encode"] == pytest.approx(first.stages["encode"], rel=0.2, abs=2e-3)
    for timing in (first, again):
        assert sum(timing.stages.values()) <= timing.first_token <= timing.total


def test_other_signals_are_read_by_encoding_anew(vlm: VLM):
    known = vlm.remembering(ROOM)
    attended = known.using("fastervlm", keep=0.5)
    with views_of(vlm) as counts:
        ask(known, 3)
        ask(attended, 3)
        ask(attended, 3)
        ask(known.using("fastervlm", keep=0.25), 3)
    assert counts == [3, 3]


def test_of_a_batch_only_what_is_new_is_encoded(vlm: VLM):
    known = vlm.remembering(ROOM)
    with views_of(vlm) as counts:
        ask(known, 4, 5)
        found = ask(known, 5, 6, 4)
    assert counts == [6, 3]
    assert [reply.tokens for reply in found] == [ask(vlm, seed)[0].tokens for seed in (5, 6, 4)]


def test_plans_that_merge_inside_the_tower_encode_anew(vlm: VLM):
    known = vlm.remembering(ROOM)
    merged = known.using("tome", r=1)
    with views_of(vlm) as counts:
        ask(known, 7)
        ask(merged, 7)
        ask(merged, 7)
        ask(known, 7)
    assert counts == [3, 3, 3]


def test_without_room_nothing_is_kept_and_what_came_first_stays(vlm: VLM):
    narrow = vlm.remembering(0)
    with views_of(vlm) as counts:
        ask(narrow, 8)
        ask(narrow, 8)
    assert counts == [3, 3]
    size = vlm.remembering(ROOM)
    ask(size, 8)
    assert size.encoded is not None
    one = vlm.remembering(size.encoded.held)
    with views_of(vlm) as counts:
        for seed in (8, 9, 8, 9):
            ask(one, seed)
    assert counts == [3, 3, 3]


def views(**changes: object) -> Views:
    made = Views(
        "video", {"pixel_values": torch.zeros(2, 3, 4, 4)}, torch.zeros(2, 4),
        torch.tensor([0.0, 1.0]), ("frame", "frame"), (2, 2), (8, 8),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "image"},
        {"inputs": {"pixel_values": torch.ones(2, 3, 4, 4)}},
        {"inputs": {"pixel_values": torch.zeros(2, 3, 2, 8)}},
        {"inputs": {"pixel_values": torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16)}},
        {"inputs": {"pixel_values": torch.zeros(2, 3, 4, 4), "size": torch.tensor(3)}},
        {"boxes": torch.ones(2, 4)},
        {"times": torch.tensor([0.0, 2.0])},
        {"roles": ("frame", "thumbnail")},
        {"grid": (1, 4)},
        {"size": (4, 16)},
        {"alone": False},
    ],
)
def test_whatever_features_depend_on_tells_media_apart(changes: dict[str, object]):
    assert digest(views(**changes)) != digest(views())


def test_shares_of_frames_are_those_of_the_request(vlm: VLM):
    known = Encoded(ROOM)
    family = vlm.family
    seen = family.film_views(film(1).frames(), [0.0, 1.0, 2.0], 3.0)
    with torch.inference_mode():
        [made] = family.encode([seen])
    known.keep(digest(seen), made, [Need("film")], 0.5)
    shared = dataclasses.replace(seen, share=torch.tensor([0.2, 0.3, 0.5]))
    found = known.find(digest(shared), shared, [Need("film")], torch.device("cpu"))
    assert found is not None
    assert found[0].views is shared
    assert found[1] == 0.5
    assert torch.equal(found[0].features, made.features)
    assert known.find(digest(shared), shared, [], torch.device("cpu")) is None
