"""Dense truth for training: what every patch, view and film token should be able to tell.

Shape suffixes: V views (all frames of all scenes of a batch), K things, G patches along a view,
N = G * G patches of a view, C cells of a frame that a film keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsight.world.scene import (
    ACTIONS,
    COLORS,
    DIGITS,
    DIRECTIONS,
    LETTERS,
    SHAPES,
    Look,
    Scene,
    boxes,
)

UNKNOWN = -100  # ignored by the losses
KINDS = (
    *SHAPES,
    *(f"letter {x}" for x in LETTERS),
    *(f"digit {x}" for x in DIGITS),
    "sign",
    "photo",
)
HUES = (*COLORS, "own")  # photographs have their own colors
MOTIONS = ("still", *DIRECTIONS)
DOINGS = ("none", *ACTIONS)
MOST_REPEATS = 8
MOST_LETTERS = 12
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def kind_of(look: Look) -> int:
    """The place of a look in KINDS."""
    if look.kind in ("sign", "sprite"):
        return KINDS.index("sign" if look.kind == "sign" else "photo")
    return KINDS.index(look.noun)


def color_of(look: Look) -> int:
    """The place of a look in HUES."""
    return HUES.index(look.color or "own")


@dataclass(frozen=True)
class Tables:
    """What is true of thing k in view v, each (V, K); `box` (V, K, 4) in shares of the view."""

    color: Tensor
    kind: Tensor
    motion: Tensor
    doing: Tensor
    repeats: Tensor
    since: Tensor  # how long it has been there, as a share of the film
    before: Tensor  # the color it had before, 0 where it never changed
    box: Tensor
    length: Tensor  # of a sign's text, 0 of other things
    codes: Tensor  # (V, K, MOST_LETTERS) its characters, as places in CHARACTERS plus one

    def to(self, device: torch.device) -> Tables:
        return Tables(**{name: value.to(device) for name, value in vars(self).items()})

    def at(self, views: slice) -> Tables:
        """The truth of some of the views."""
        return Tables(**{name: value[views] for name, value in vars(self).items()})


def tables(shots: Sequence[tuple[Scene, np.ndarray]]) -> Tables:
    """The truth of scenes at the instants that are shown, one row a view; things are padded to
    the most that a scene has."""
    most = max(1, *(len(scene.things) for scene, _ in shots))
    rows: dict[str, list[np.ndarray]] = {}
    for scene, times in shots:
        for name, value in _table(scene, times, most).items():
            rows.setdefault(name, []).append(value)
    joined = {name: torch.from_numpy(np.concatenate(value)) for name, value in rows.items()}
    for name in ("since", "box"):
        joined[name] = joined[name].float()
    return Tables(**joined)


def _table(scene: Scene, times: np.ndarray, most: int) -> dict[str, np.ndarray]:
    views = len(times)
    made = {
        name: np.zeros((views, most), np.int64)
        for name in ("color", "kind", "motion", "doing", "repeats", "before", "length")
    }
    made["codes"] = np.zeros((views, most, MOST_LETTERS), np.int64)
    made["since"] = np.zeros((views, most))
    made["box"] = np.full((views, most, 4), np.nan)
    if scene.things:
        made["box"][:, : len(scene.things)] = boxes(scene, times)
    step = (times[1] - times[0]) if views > 1 else 1.0
    for k, thing in enumerate(scene.things):
        look = thing.looks.index(times)
        values = thing.looks.values
        color = np.array([color_of(v) for v in values])
        made["color"][:, k] = color[look]
        made["kind"][:, k] = np.array([kind_of(v) for v in values])[look]
        changed = look > 0
        made["before"][changed, k] = color[look[changed] - 1] + 1
        if any(v.kind == "sign" for v in values):
            codes = np.array([_codes(v) for v in values])
            made["codes"][:, k] = codes[look]
            made["length"][:, k] = (codes != 0).sum(1)[look]
        made["motion"][:, k] = _motion(
            thing.x.at(times + step / 2) - thing.x.at(times - step / 2),
            thing.y.at(times + step / 2) - thing.y.at(times - step / 2),
        )
        began = np.array([start for start, _ in thing.shown])
        started = np.searchsorted(began, times, side="right") - 1
        made["since"][:, k] = (times - began[np.clip(started, 0, None)]) / max(scene.duration, 1e-6)
    for event in scene.events:
        if event.thing >= most:
            continue
        end = max(event.end, event.start + step)
        now = (times >= event.start) & (times < end)
        made["doing"][now, event.thing] = DOINGS.index(event.action)
        if event.times > 1 or event.action in ("bounce", "spin", "blink"):
            share = np.clip((times - event.start) / max(event.end - event.start, 1e-6), 0, 1)
            done = np.ceil(share * event.times - 1e-6).astype(np.int64)
            made["repeats"][:, event.thing] = np.minimum(done, MOST_REPEATS)
    return made


def _codes(look: Look) -> list[int]:
    """The characters of a sign, padded with 0; of other things none."""
    text = look.name.upper()[:MOST_LETTERS] if look.kind == "sign" else ""
    codes = [CHARACTERS.find(letter) + 1 or UNKNOWN for letter in text]
    return codes + [0] * (MOST_LETTERS - len(codes))


def _motion(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The nearest of eight directions, or 0 for hardly any motion."""
    turn = np.round(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 8
    names = list(DIRECTIONS.values())
    eighth = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    order = np.array([names.index(way) + 1 for way in eighth])
    return np.where(np.hypot(across, down) > 0.01, order[turn], 0)


@dataclass(frozen=True)
class Patches:
    """The truth of every patch of every view: `owner` (V, N), the slot of the thing that fills it
    (-1 for background); `color`, `kind` (V, N) with 0 for background; `center` (V, N, 2) of the
    thing's visible part in 0..1; `character` (V, N) of a sign's text under the patch; `visible`
    (V, K)."""

    owner: Tensor
    color: Tensor
    kind: Tensor
    center: Tensor
    character: Tensor
    visible: Tensor


def patches(owners: Tensor, truth: Tables, grid: int, least: float = 0.125) -> Patches:
    """Dense truth from who owns each pixel.

    Args:
        owners: (V, H, W) uint8, 0 for background, k + 1 for thing k.
        grid: patches along a side.
        least: a patch belongs to the thing with most of it, if that is at least this share.
    """
    height, width = owners.shape[1:]
    slots = truth.color.shape[1]
    masks = torch.stack([owners == k + 1 for k in range(slots)], 1).float()  # (V, K, H, W)
    area = F.adaptive_avg_pool2d(masks, grid).flatten(2)  # (V, K, N)
    share, owner = area.max(1)
    owner = torch.where(share >= least, owner, -1)
    size = masks.sum((2, 3))
    # Sums, not matrix products: those would be rounded where training runs under autocast.
    x = (masks.sum(2) * _middles(width, masks)).sum(-1) / size.clamp(min=1)
    y = (masks.sum(3) * _middles(height, masks)).sum(-1) / size.clamp(min=1)
    slot = owner.clamp(min=0)
    on_thing = owner >= 0
    center = torch.stack([x.gather(1, slot), y.gather(1, slot)], -1)

    def told(table: Tensor) -> Tensor:
        return torch.where(on_thing, table.gather(1, slot) + 1, 0)

    return Patches(
        owner=owner,
        color=told(truth.color),
        kind=told(truth.kind),
        center=center,
        character=_characters(truth, owner, grid),
        visible=size > height * width / 2500,
    )


def _middles(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count


def _characters(truth: Tables, owner: Tensor, grid: int) -> Tensor:
    """(V, N): which character of a sign's text lies under a patch, 0 for none, UNKNOWN where it
    cannot be told. Characters are taken to share the plate evenly."""
    slot = owner.clamp(min=0)
    left, right = (truth.box[..., side].gather(1, slot) for side in (0, 2))
    length = truth.length.gather(1, slot)
    middle = (torch.arange(grid * grid, device=owner.device) % grid + 0.5) / grid
    place = ((middle - left) / (right - left) * length).nan_to_num().long()
    place = place.clamp(min=0).minimum((length - 1).clamp(min=0))
    most = truth.codes.shape[2]
    codes = truth.codes.flatten(1).gather(1, slot * most + place)
    return torch.where((owner >= 0) & (length > 0), codes, 0)


@dataclass(frozen=True)
class Cells:
    """The truth of every token of a film, each (V, C), 0 for background or UNKNOWN: how its thing
    moves now, what it is doing, how often it has done so, since when it is there, the color it had
    before; `center` (V, C, 2)."""

    owner: Tensor
    motion: Tensor
    doing: Tensor
    repeats: Tensor
    since: Tensor
    before: Tensor
    center: Tensor


def cells(owners: Tensor, truth: Tables, grid: int) -> Cells:
    """As `patches`, for the tokens inside the LLM."""
    dense = patches(owners, truth, grid, least=0.3)
    slot, on_thing = dense.owner.clamp(min=0), dense.owner >= 0

    def told(table: Tensor, shift: int) -> Tensor:
        return torch.where(on_thing, table.gather(1, slot) + shift, 0)

    return Cells(
        owner=dense.owner,
        motion=told(truth.motion, 1),
        doing=told(truth.doing, 1),
        repeats=told(truth.repeats, 1),
        since=told(truth.since, 0),
        before=told(truth.before, 1),
        center=dense.center,
    )
