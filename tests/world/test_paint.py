from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.world import paint as module
from sparsight.world.library import Library
from sparsight.world.paint import paint, paint_batch, paint_film, paint_layout
from sparsight.world.placing import lay_out
from sparsight.world.scene import (
    COLORS,
    SHAPES,
    Background,
    Camera,
    Look,
    Steps,
    Thing,
    Track,
    always,
    boxes,
    constant,
)
from sparsight.world.sprites import sign_aspect
from tests.world.painting import busy, frames_of, horses, owned, scene, thing


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return horses(tmp_path_factory.mktemp("pictures"))


# Where things are


def test_shape_and_type_of_what_is_painted() -> None:
    painted = paint(scene(thing(), aspect=1.5), [0.0, 0.5, 0.7], 64)
    assert (painted.frames.shape, painted.frames.dtype) == ((3, 64, 96, 3), torch.uint8)
    assert (painted.owners.shape, painted.owners.dtype) == ((3, 64, 96), torch.uint8)
    assert painted.frames.permute(0, 3, 1, 2).is_contiguous()
    assert paint(scene(thing(), aspect=0.5), [0.0], 64).owners.shape == (1, 128, 64)


def test_a_square_is_where_it_is_said_to_be() -> None:
    painted = paint(scene(thing(at=(0.25, 0.5), height=0.25)), [0.0], 64)
    true = np.zeros((64, 64), int)
    true[24:40, 8:24] = 1
    assert (painted.owners[0].numpy() == true).all()
    inside = painted.frames[0, 25:39, 9:23].int() - torch.tensor(COLORS["red"])
    assert inside.abs().max() <= 10
    assert (inside == inside[0, 0]).all()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("aspect", "turn", "camera"),
    [
        (1.0, 0.0, Camera()),
        (2.0, 25.0, Camera(constant(-0.1), constant(0.05), constant(1.3))),
        (0.7, -200.0, Camera(constant(0.04), constant(0.1), constant(0.7))),
    ],
)
def test_what_a_thing_owns_fills_its_box(
    name: str, aspect: float, turn: float, camera: Camera
) -> None:
    what = scene(
        thing(name=name, at=(0.55, 0.5), height=0.35, angle=constant(turn)),
        aspect=aspect,
        camera=camera,
    )
    owners = owned(what, 200)
    rows, columns = np.flatnonzero(owners.any(1)), np.flatnonzero(owners.any(0))
    height, width = owners.shape
    x0, y0, x1, y1 = boxes(what, [0.0])[0, 0] * [width, height, width, height]
    assert columns[0] > x0 - 1.5
    assert rows[0] > y0 - 1.5
    assert columns[-1] + 1 < x1 + 1.5
    assert rows[-1] + 1 < y1 + 1.5
    if turn == 0 or name == "square":  # others need not reach the box around their turned box
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert found == pytest.approx((x0, y0, x1, y1), abs=2.5)


def test_a_turn_is_clockwise() -> None:
    upright = owned(scene(thing(name="triangle", height=0.5)))
    turned = owned(scene(thing(name="triangle", height=0.5, angle=constant(90.0))))
    assert (turned == np.rot90(upright, -1)).mean() > 0.995
    assert (turned == np.rot90(upright, 1)).mean() < 0.95


def test_later_things_hide_earlier_ones() -> None:
    back, front = thing(height=0.5), thing(name="circle", color="blue", height=0.2)
    owners = owned(scene(back, front))
    assert owners[56, 56] == 2
    assert owners[40, 40] == 1
    assert owned(scene(front, back))[56, 56] == 2  # the square now, over all of the circle
    assert 1 not in owned(scene(front, back))


def test_things_outside_or_not_there_are_not_painted() -> None:
    ground = frames_of(scene())
    assert (frames_of(scene(thing(at=(1.4, 0.5)), thing(at=(0.5, -9.0)))) == ground).all()
    gone = scene(thing(shown=((0.5, 1.0),)))
    painted = paint(gone, gone.times)
    assert [bool(owner.any()) for owner in painted.owners] == [False, True, False, False]
    assert (painted.frames[[0, 2, 3]].int() == ground[[0, 2, 3]]).all()


def test_the_part_of_a_thing_that_is_in_the_picture_is_painted() -> None:
    whole = owned(scene(thing(name="star", height=0.5)))
    for dx, dy in ((-0.5, 0), (0.5, 0), (0.25, -0.5), (0.5, 0.5)):
        part = owned(scene(thing(name="star", height=0.5, at=(0.5 + dx, 0.5 + dy))))
        x, y = round(dx * 112), round(dy * 112)
        moved = np.roll(whole, (y, x), (0, 1))
        moved[: max(y, 0)] = moved[112 + min(y, 0) :] = 0
        moved[:, : max(x, 0)] = moved[:, 112 + min(x, 0) :] = 0
        assert part.any()
        assert (part != moved).sum() <= 4


def test_looks_and_places_change_with_time() -> None:
    looks = Steps((0.0, 1.0), (Look("shape", "square", "red"), Look("shape", "ring", "blue")))
    moving = Thing(looks, 0.3, Track((0.0, 1.5), (0.2, 0.8)), constant(0.5))
    painted = paint(scene(moving), [0.0, 0.5, 1.0, 1.5])
    x = [float(np.argwhere(owner.numpy())[:, 1].mean()) / 112 for owner in painted.owners]
    assert x == pytest.approx([0.2, 0.4, 0.6, 0.8], abs=0.01)
    assert painted.owners[1, 56, round(0.4 * 112)] == 1
    assert painted.owners[2, 56, round(0.6 * 112)] == 0  # the hole of the ring
    assert painted.frames[1, 56, round(0.4 * 112)].tolist() == pytest.approx(COLORS["red"], abs=10)


# What things look like


@pytest.mark.parametrize("side", [40, 64, 200])
@pytest.mark.parametrize("turn", [0.0, 33.0])
def test_edges_are_soft_enough_to_keep_the_area(side: int, turn: float) -> None:
    """The covered area, partly covered pixels by their share, is that of a ring."""
    height = 0.3
    ring = thing(name="ring", color="black", at=(0.513, 0.487), height=height, angle=constant(turn))
    ground = frames_of(scene(), side)[0].float()
    shown = frames_of(scene(ring), side)[0].float()
    middle = shown[paint(scene(ring), [0.0], side).owners[0] == 1].median(0).values
    share = ((ground - shown) / (ground - middle))[..., 0].clamp(0, 1).sum().item()
    true = math.pi / 4 * (1 - 0.58**2) * (height * side) ** 2
    assert share == pytest.approx(true, rel=0.03)


def test_half_a_pixel_makes_a_grey_edge() -> None:
    black = thing(color="black", at=(0.5, 0.5 + 0.5 / 64), height=0.5)
    ground, shown = frames_of(scene(), 64)[0, :, 32, 0], frames_of(scene(black), 64)[0, :, 32, 0]
    for edge in (16, 48):
        mixed = (ground[edge] + shown[30]).item() / 2
        assert shown[edge].item() == pytest.approx(mixed, abs=2)


def test_the_smallest_text_can_be_seen_and_larger_pictures_show_more_of_it() -> None:
    sign = thing("sign", "HXK", "black", height=0.05 / 0.6, aspect=sign_aspect("HXK", 0))
    spread = [
        frames_of(scene(sign), side)[0][owned(scene(sign), side) == 1].float().std().item()
        for side in (64, 224, 672)
    ]
    assert 20 < spread[0] < spread[1] < spread[2]


def test_pictures_of_all_sizes_look_alike() -> None:
    what = replace(busy(2), noise=0.0, backgrounds=always(Background("texture", 8)), cursor=None)
    what = replace(what, things=tuple(t for t in what.things if t.look.kind != "sprite"))
    small, large = paint(what, [0.4], 64), paint(what, [0.4], 1344)
    shrunk = torch.nn.functional.avg_pool2d(large.frames.permute(0, 3, 1, 2).float(), 21)
    off = (small.frames.permute(0, 3, 1, 2) - shrunk).abs()
    assert off.mean() < 2
    assert off.quantile(0.99) < 25
    assert (small.owners == large.owners[:, 10::21, 10::21]).float().mean() > 0.99


def test_a_photograph_is_shown_as_it_is_and_in_the_light(library: Library) -> None:
    horse = thing("sprite", "horse", "", height=0.5)
    shown = frames_of(scene(horse), library=library)[0]
    assert shown[56, 34].tolist() == [30] * 3
    assert shown[56, 78].tolist() == [220] * 3
    dim = frames_of(scene(horse, light=constant(0.5)), library=library)[0]
    assert dim[56, 78].tolist() == [110] * 3
    tiny = frames_of(
        replace(scene(horse), things=(replace(horse, height=0.1),)), 64, library=library
    )
    assert tiny[0, 32, 34].float().mean().item() == pytest.approx(220, abs=12)


def test_a_pointer_is_seen_but_owns_nothing() -> None:
    square = thing(height=0.8)
    bare, pointed = scene(square), scene(square, cursor=(constant(0.5), constant(0.25)))
    assert (paint(bare, [0.0]).owners == paint(pointed, [0.0]).owners).all()
    changed = (frames_of(bare)[0] != frames_of(pointed)[0]).any(-1).nonzero()
    assert changed.min(0).values.tolist() == [28, 56]  # its tip: rows from y, columns from x
    assert (changed.max(0).values - changed.min(0).values).max() < 0.1 * 112


# The same pixels, whatever is painted beside them


def test_a_frame_does_not_depend_on_its_batch(library: Library) -> None:
    scenes = [busy(seed) for seed in range(12)]
    batch = paint_batch([(one, one.times) for one in scenes], 80, library=library)
    for index, one in enumerate(scenes):
        alone = paint(one, one.times, 80, library=library)
        assert (alone.frames == batch.frames[3 * index : 3 * index + 3]).all()
        assert (alone.owners == batch.owners[3 * index : 3 * index + 3]).all()
    last = paint(scenes[4], [1.0], 80, library=library)
    assert (last.frames[0] == batch.frames[14]).all()


def test_a_frame_does_not_depend_on_the_piece_or_the_threads(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [(one, one.times) for one in map(busy, range(6))]
    whole = paint_batch(scenes, 65, library=library)
    threads = torch.get_num_threads()
    monkeypatch.setattr(module, "_PIECE", {"cpu": 5 * 65 * 65})
    torch.set_num_threads(2)
    try:
        pieces = paint_batch(scenes, 65, library=library)
    finally:
        torch.set_num_threads(threads)
    assert (whole.frames == pieces.frames).all()
    assert (whole.owners == pieces.owners).all()


def test_a_film_is_painted_in_chunks_of_the_same_pixels(library: Library) -> None:
    film = busy(3, frames=11)
    whole = paint(film, film.times, 48, library=library)
    chunks = list(paint_film(film, 48, chunk=4, library=library))
    assert [len(chunk.frames) for chunk in chunks] == [4, 4, 3]
    assert (torch.cat([chunk.frames for chunk in chunks]) == whole.frames).all()
    assert (torch.cat([chunk.owners for chunk in chunks]) == whole.owners).all()


def test_large_pictures_come_in_smaller_chunks() -> None:
    assert len(next(paint_film(scene(frames=64), 1344)).frames) <= 9


def test_a_layout_can_be_painted_in_another_process(library: Library) -> None:
    scenes = [(one, one.times) for one in map(busy, range(3))]
    sent = pickle.loads(pickle.dumps(lay_out(scenes)))
    painted = paint_layout(sent, 64, library=library)
    assert (painted.frames == paint_batch(scenes, 64, library=library).frames).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_paints_the_same(library: Library) -> None:
    scenes = [(one, one.times) for one in map(busy, range(8))]
    here = paint_batch(scenes, 112, library=library)
    there = paint_batch(scenes, 112, library=library, device="cuda")
    assert (here.frames.int() - there.frames.cpu().int()).abs().max() <= 2
    assert (here.owners != there.owners.cpu()).float().mean() < 1e-4


# Mistakes


def test_nothing_to_paint_is_no_frames() -> None:
    assert paint(scene(thing()), []).frames.shape == (0, 112, 112, 3)
    assert paint(scene(), [0.0]).owners.max() == 0


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a side of 8 pixels: choose 16 to 2048"):
        paint(scene(), [0.0], 8)
    with pytest.raises(UserError, match=r"one aspect, not \[1.0, 2.0\]"):
        paint_batch([(scene(), [0.0]), (scene(aspect=2.0), [0.0])])
    with pytest.raises(UserError, match="0 variants of the photo 'horse'"):
        paint(scene(thing("sprite", "horse", "")), [0.0])
    with pytest.raises(UserError, match="need a folder of pictures"):
        paint(scene(backgrounds=always(Background("photo", 0))), [0.0])
