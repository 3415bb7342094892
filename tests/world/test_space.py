from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

from sparsight.world.scene import COLORS
from sparsight.world.space import Eye, Room, Solid, Surface, paint_room, sample_room
from sparsight.world.space import paint as painting
from sparsight.world.space.rays import blocked, cast, meet, normals, shell, sight
from sparsight.world.space.room import FLOORS, SOLIDS, WALLS

ROOMS = [sample_room(seed, "test") for seed in range(8)]


def room(*solids: Solid, eyes: tuple[Eye, ...] | None = None, **changes) -> Room:
    """An empty room of 6 x 6 x 3 metres with these things and a camera at the front wall."""
    eyes = eyes or (Eye((3, 0.2, 1.5), (3, 3, 0.5), 60),)
    plain = Surface("plain", (150, 150, 150), (120, 120, 120), 1)
    made = Room(0, "test", (6, 6, 3), solids, eyes, plain, plain, (3, 3, 2.9))
    return replace(made, **changes)


def inside(solid: Solid, points: torch.Tensor) -> torch.Tensor:
    """Whether points (3, ...) are within a thing, from the definition of its shape."""
    x, y, z = points[0] - solid.x, points[1] - solid.y, points[2]
    half = solid.width / 2
    between = (z >= 0) & (z <= solid.height)
    if solid.shape == "sphere":
        return x**2 + y**2 + (z - half) ** 2 <= half**2
    if solid.shape == "cylinder":
        return between & (x**2 + y**2 <= half**2)
    if solid.shape == "cone":
        return between & (torch.hypot(x, y) <= half * (1 - z / solid.height))
    turn = math.radians(solid.angle)
    u, v = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    return between & (u.abs() <= half) & (v.abs() <= half)


def a_solid(shape: str) -> Solid:
    even = shape in ("sphere", "cube")
    return Solid(shape, "red", 3.1, 2.8, 0.7, 0.7 if even else 1.1, 31.0)


# Rays


@pytest.mark.parametrize("shape", SOLIDS)
def test_rays_meet_a_thing_where_a_walk_along_them_enters_it(shape: str):
    solid = a_solid(shape)
    generator = torch.Generator().manual_seed(0)
    origin = torch.rand(3, 400, generator=generator) * torch.tensor([[6.0], [6.0], [3.0]])
    origin = origin[:, ~inside(solid, origin)]
    aim = torch.tensor([[3.1], [2.8], [0.4]]) + torch.randn(origin.shape, generator=generator) * 0.3
    way = aim - origin
    steps = torch.linspace(0, 1.5, 3001)
    walk = inside(solid, origin[..., None] + way[..., None] * steps)
    hit = walk.any(-1)
    entered = steps[walk.int().argmax(-1)]
    found = meet(solid, origin, way)
    sure = hit | (found > 1.5)  # between two steps a ray may graze the thing
    assert (~sure).float().mean() < 0.02
    assert 0.3 < hit.float().mean() < 0.95
    assert (found[hit] - entered[hit]).abs().max() < 1e-3
    assert torch.isfinite(found).sum() >= hit.sum()


@pytest.mark.parametrize("shape", SOLIDS)
def test_normals_point_straight_out(shape: str):
    solid = a_solid(shape)
    origin = torch.tensor([0.5, 0.7, 2.5])[:, None].expand(3, 500)
    aim = torch.tensor([3.1, 2.8, 0.4])[:, None] + torch.randn(
        3, 500, generator=torch.Generator().manual_seed(1)
    ) * torch.tensor(0.25)
    way = aim - origin
    depth = meet(solid, origin, way)
    met = torch.isfinite(depth)
    points = (origin + way * depth)[:, met]
    normal = normals(solid, points)
    assert torch.allclose((normal**2).sum(0), torch.ones(points.shape[1]), atol=1e-4)
    assert ((normal * way[:, met]).sum(0) < 1e-3).all()  # towards where the ray comes from
    across = torch.linalg.cross(
        normal, torch.tensor([0.3, 0.5, 0.8])[:, None].expand_as(normal), dim=0
    )
    flush = 1e-3 * across / across.norm(dim=0)
    out, within = points + 4e-3 * normal, points - 4e-3 * normal
    assert not inside(solid, out).any()
    edges = (~inside(solid, within + flush) | ~inside(solid, within - flush)).float().mean()
    assert edges < 0.08  # where the thing is thinner than the step


def test_a_ray_that_meets_nothing_ends_at_the_wall_behind():
    here = torch.tensor([1.0, 2.0, 1.0])[:, None]
    ways = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, 0, -1], [0, 0, 1]]).T
    far = shell(room(), here, ways)
    assert torch.allclose(far, torch.tensor([5.0, 1.0, 2.0, 1.0, 2.0]))
    hits = cast(room(), here, ways)
    assert not hits.owner.any()
    assert torch.allclose(hits.points[:, 2], torch.tensor([1.0, 6.0, 1.0]))


def test_only_what_stands_between_blocks_the_light():
    scene = room(Solid("sphere", "red", 3, 3, 1, 1))
    start = torch.tensor([[3, 3, 2], [3, 3, 2], [0.5, 3, 2], [0.5, 3, 0.5], [0.5, 3, 0.5]])
    way = torch.tensor([[0, 0, -1.9], [0, 0, -0.9], [5, 0, 0], [5, 0, 0], [-5, 0, 0]])
    # through the ball, to just above it, over it, through it, away from it
    assert blocked(scene, start.T, way.T).tolist() == [True, False, False, True, False]


# Truth


@pytest.mark.parametrize("aspect", [1.0, 1.5, 0.5])
def test_depth_points_and_cameras_agree(aspect: float):
    seen = paint_room(sample_room(5, views=3, aspect=aspect), 48)
    views, height, width = seen.depth.shape
    assert (width > height) == (aspect > 1)
    assert min(height, width) == 48
    for view in range(views):
        pose, lens = seen.extrinsics[view], seen.intrinsics[view]
        at = seen.points[view].double().numpy() @ pose[:, :3].T + pose[:, 3]
        np.testing.assert_allclose(at[..., 2], seen.depth[view], atol=1e-4)
        pixel = at @ lens.T
        rows, columns = np.mgrid[:height, :width] + 0.5
        np.testing.assert_allclose(pixel[..., 0] / pixel[..., 2], columns, atol=1e-2)
        np.testing.assert_allclose(pixel[..., 1] / pixel[..., 2], rows, atol=1e-2)
        np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:, :3]) == pytest.approx(1)


def test_a_point_of_one_view_is_the_same_thing_in_another_unless_something_hides_it():
    same = hidden = neither = 0
    for scene in ROOMS[:6]:
        seen = paint_room(scene, 96)
        height, width = seen.depth.shape[1:]
        for first, second in combinations(range(len(scene.eyes)), 2):
            mine = seen.owners[first] > 0
            points, owner = seen.points[first][mine].double().numpy(), seen.owners[first][mine]
            pose = seen.extrinsics[second]
            at = points @ pose[:, :3].T + pose[:, 3]
            pixel = at @ seen.intrinsics[second].T
            column, row = (np.floor(pixel[:, i] / pixel[:, 2]).astype(int) for i in (0, 1))
            shown = (at[:, 2] > 0.1) & (column > 0) & (column < width - 1)
            shown &= (row > 0) & (row < height - 1)
            there = seen.owners[second][row[shown], column[shown]].numpy()
            depth = seen.depth[second][row[shown], column[shown]].numpy()
            agrees = there == owner.numpy()[shown]
            behind = at[shown, 2] > depth + 0.02
            around = np.zeros_like(agrees)  # on an outline the next pixel may show it
            for down, across in product((-1, 0, 1), repeat=2):
                next_to = seen.owners[second][row[shown] + down, column[shown] + across]
                around |= (next_to == owner[shown]).numpy()
            same += agrees.sum()
            hidden += (~agrees & behind).sum()
            neither += (~behind & ~around).sum()
    assert same > 3000
    assert hidden > 100
    assert neither == 0


def test_boxes_hold_exactly_the_points_of_their_things():
    for scene in ROOMS[:8]:
        seen = paint_room(scene, 64)
        for place, (box, centre) in enumerate(zip(seen.boxes, seen.centres, strict=True)):
            points = seen.points[seen.owners == place + 1].double().numpy()
            x, y, z = (points - box[:3]).T
            cos, sin = math.cos(box[6]), math.sin(box[6])
            own = np.abs(np.stack([x * cos + y * sin, y * cos - x * sin, z], -1))
            assert (own <= box[3:6] / 2 + 1e-4).all()
            assert np.array_equal(box[:3], centre)
            assert own[:, 2].max() > 0.4 * box[5]  # its top is seen


def test_a_thing_before_another_owns_the_pixels_of_both():
    near, far = Solid("cube", "red", 3, 2, 0.8, 0.8), Solid("sphere", "blue", 3, 4, 0.5, 0.5)
    low = (Eye((3, 0.2, 0.4), (3, 3, 0.4), 60),)
    owners = paint_room(room(near, far, eyes=low), 64).owners
    assert set(owners.unique().tolist()) == {0, 1}
    assert set(paint_room(room(far, eyes=low), 64).owners.unique().tolist()) == {0, 1}
    share = sight(room(near, far, eyes=low)).share[0]
    assert share.tolist() == [1.0, 0.0]


def test_sight_counts_what_the_edge_cuts_off_as_not_seen():
    eyes = (Eye((3, 0.2, 1.0), (3, 3, 0.5), 60),)
    x = 3 + 1.8 * math.tan(math.radians(30))  # its middle is on the edge of the picture
    found = sight(room(Solid("sphere", "red", x, 2, 0.6, 0.6), eyes=eyes), 64)
    assert found.share[0, 0] == pytest.approx(0.5, abs=0.08)
    assert found.boxes[0, 0, 2] == pytest.approx(1, abs=0.02)


# Pictures


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("wall", WALLS)
def test_floor_and_walls_have_texture_but_no_named_color(floor: str, wall: str):
    surfaces = replace(ROOMS[0].floor, pattern=floor), replace(ROOMS[0].walls, pattern=wall)
    eyes = (Eye((3, 0.2, 1.2), (3, 6, 1.2), 60), Eye((3, 0.2, 2.0), (3, 2, 0), 60))
    frames = paint_room(room(eyes=eyes, floor=surfaces[0], walls=surfaces[1]), 64).frames.float()
    assert (frames.std((1, 2)) > 4).all()
    middle = frames.mean((1, 2))
    distance = [(middle - torch.tensor(rgb)).norm(dim=-1).min() for rgb in COLORS.values()]
    assert min(distance) > 60


@pytest.mark.parametrize("color", COLORS)
def test_a_thing_shows_its_color(color: str):
    seen = paint_room(room(Solid("sphere", color, 3, 3, 0.8, 0.8)), 64)
    shown = seen.frames[seen.owners == 1].float().mean(0)
    near = {name: (shown - torch.tensor(rgb)).norm() for name, rgb in COLORS.items()}
    assert min(near, key=near.__getitem__) == color


def test_the_same_room_gives_the_same_pixels_however_it_is_cut(monkeypatch):
    whole = paint_room(ROOMS[1], 50)
    monkeypatch.setattr(painting, "_BAND", 700)
    parts = paint_room(ROOMS[1], 50)
    for name in ("frames", "depth", "points", "owners"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_a_thing_throws_a_shadow():
    bare = paint_room(room(lamp=(1, 3, 2.9)), 64).frames.float()
    seen = paint_room(room(Solid("cube", "red", 3, 3, 0.8, 0.8), lamp=(1, 3, 2.9)), 64)
    fell = (bare - seen.frames.float()).mean(-1)
    ground = (seen.owners == 0) & (seen.points[..., 2] < 1e-3)
    right = ground & (seen.points[..., 0] > 3.6) & (seen.points[..., 0] < 3.9)
    right &= (seen.points[..., 1] - 3).abs() < 0.2
    left = ground & (seen.points[..., 0] < 1.5)
    assert fell[right].mean() > 20
    assert fell[left].abs().mean() < 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_paints_the_same_room():
    here, there = paint_room(ROOMS[0], 64), paint_room(ROOMS[0], 64, "cuda")
    assert (here.owners == there.owners.cpu()).float().mean() > 0.999
    same = here.owners == there.owners.cpu()
    assert (here.depth - there.depth.cpu()).abs()[same].max() < 1e-2
    off = (here.frames.int() - there.frames.cpu().int()).abs().amax(-1)
    assert (off > 2).float().mean() < 0.01
