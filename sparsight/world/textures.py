"""Backgrounds: smooth fields of color, drawn at any size and from any camera.

A background is a lattice of colors, CELLS to a unit and without end. A view of it is the lattice
near the picture, enlarged by quadratic splines along each axis. Lattice and weights are whole
numbers small enough that float32 sums them exactly, so a view is the same in whatever batch it is
drawn, and on any device.

Shape suffixes: V views, C = 3 colors, L layers, a and b cells down and across, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from sparsight.world.library import Library
from sparsight.world.scene import Background

CELLS = 32  # lattice cells to a unit

_POOL = 256  # cells along the side of a layer before it repeats
_STEPS = 4  # of the lattice to a grey level
_WEIGHT = 64  # what the weights of a spline sum to


@dataclass(frozen=True)
class Views:
    """Views (V): the background `backgrounds[which[v]]`, of a scene of that split, as a camera
    sees it.

    x, y (V,): shift of the camera in units; zoom, light (V,). All float64 but `which`.
    """

    backgrounds: Sequence[tuple[Background, str]]
    which: np.ndarray
    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray
    light: np.ndarray


def draw(
    views: Views,
    extent: tuple[float, float],
    size: tuple[int, int],
    library: Library,
    device: torch.device,
) -> torch.Tensor:
    """Pixels (V, 3, H, W) uint8 of the views.

    extent: height and width of the pictures in units; size: the same in pixels.
    """
    top, down = _weights(extent[0], size[0], views.y, views.zoom, device)
    left, across = _weights(extent[1], size[1], views.x, views.zoom, device)
    rows = top[:, None] + np.arange(down.shape[2])
    columns = left[:, None] + np.arange(across.shape[2])
    lattice = _textures(views, rows, columns, device)
    photos = np.flatnonzero([views.backgrounds[place][0].kind == "photo" for place in views.which])
    if len(photos):
        lattice[torch.from_numpy(photos).to(device)] = _photos(
            views, extent, photos, rows[photos], columns[photos], library, device
        )
    lattice = lattice.clamp_(0, 255).mul_(_STEPS).round_()
    # (V, C, a, b) -> (V, C, a, W) -> (V, C, H, W)
    wide = torch.matmul(lattice, across.transpose(1, 2)[:, None])
    full = torch.matmul(down[:, None], wide)
    gain = views.light / (_STEPS * _WEIGHT**2)
    full *= torch.from_numpy(gain.astype(np.float32)).to(device)[:, None, None, None]
    return full.add_(0.5).clamp_(0, 255.5).to(torch.uint8)


def _weights(
    length: float, pixels: int, shift: np.ndarray, zoom: np.ndarray, device: torch.device
) -> tuple[np.ndarray, torch.Tensor]:
    """The splines along one axis.

    Returns the first cell of each view (V,) int64, and (V, pixels, cells) float32: how much each
    of the cells from there on adds to each pixel, whole numbers that sum to _WEIGHT.
    """
    seen = (np.arange(pixels) + 0.5) * (length / pixels) - length / 2
    at = (seen / zoom[:, None] + length / 2 + shift[:, None]) * CELLS
    cell = np.floor(at).astype(np.int64)
    off = at - cell - 0.5
    before = np.rint((0.5 - off) ** 2 * (_WEIGHT / 2))
    behind = np.rint((0.5 + off) ** 2 * (_WEIGHT / 2))
    first = cell[:, 0] - 1
    cell -= first[:, None]
    taps = np.stack([before, _WEIGHT - before - behind, behind], -1).astype(np.float32)
    index = cell[..., None] + np.arange(-1, 2)
    weights = torch.zeros(len(zoom), pixels, int(cell[:, -1].max()) + 2, device=device)
    return first, weights.scatter_(2, _on(device, index), _on(device, taps))


# Textures


@dataclass(frozen=True)
class _Recipe:
    """A texture: layers of the pool, each shifted and tinted, on a ground color."""

    ground: np.ndarray  # (3,)
    layers: np.ndarray  # (L,) which
    shifts: np.ndarray  # (L, 2) cells down and across
    tints: np.ndarray  # (L, 3) grey levels to a unit of the layer


def _textures(
    views: Views, rows: np.ndarray, columns: np.ndarray, device: torch.device
) -> torch.Tensor:
    """Colors (V, 3, a, b) float32 of the cells at rows (V, a) and columns (V, b)."""
    recipes = [_recipe(views.backgrounds[place][0].seed) for place in views.which]
    ground, layers, shifts, tints = (
        np.stack([getattr(recipe, part) for recipe in recipes])
        for part in ("ground", "layers", "shifts", "tints")
    )
    down = (rows[:, None] + shifts[..., :1]) % _POOL * _POOL + layers[..., None] * _POOL**2
    across = (columns[:, None] + shifts[..., 1:]) % _POOL
    index = _on(device, down)[..., None] + _on(device, across)[:, :, None]  # (V, L, a, b)
    values = _pool(device).take(index)
    tint = _on(device, tints)[..., None, None]
    lattice = _on(device, ground)[..., None, None] + tint[:, 0] * values[:, :1]
    for layer in range(1, values.shape[1]):
        lattice += tint[:, layer] * values[:, layer, None]
    return lattice


@lru_cache(maxsize=4096)
def _recipe(seed: int) -> _Recipe:
    draw = np.random.default_rng(seed).random(27)
    # A large soft layer, a pattern or a second cloud, and a fine one.
    layers = np.array([int(draw[0] * 2), 1 + int(draw[1] * (_LAYERS - 2)), _LAYERS - 1])
    strength = np.array([5, 2, 1]) + draw[2:5] * (10, 9, 3)
    tints = np.where(draw[5:8] < 0.5, -1, 1)[:, None] + 1.2 * (draw[8:17].reshape(3, 3) - 0.5)
    return _Recipe(
        ground=(85 + 80 * draw[17] + 36 * (draw[18:21] - 0.5)).astype(np.float32),
        layers=layers,
        shifts=(draw[21:27] * _POOL).astype(np.int64).reshape(3, 2),
        tints=(strength[:, None] * tints).astype(np.float32),
    )


_LAYERS = 10


@lru_cache(maxsize=4)
def _pool(device: torch.device) -> torch.Tensor:
    """(_LAYERS, _POOL, _POOL) float32: patterns of unit spread that repeat without a seam."""
    rng = np.random.default_rng(20260)
    y = np.fft.fftfreq(_POOL)[:, None]
    x = np.fft.fftfreq(_POOL)[None]
    radius = np.hypot(x, y)

    def noise(spectrum: np.ndarray) -> np.ndarray:
        white = np.fft.fft2(rng.standard_normal((_POOL, _POOL)))
        return np.fft.ifft2(white * spectrum).real

    def waves(down: float, across: float, spread: float) -> np.ndarray:
        return np.exp(-(((y - down) ** 2 + (x - across) ** 2) / (2 * spread**2)))

    cell = np.arange(_POOL)
    tile = np.minimum(cell % 16, 1)
    check = (cell // 8) % 2
    layers = [
        noise(np.exp(-((radius * 26) ** 2))),  # clouds
        noise(np.exp(-((radius * 11) ** 2))),  # smaller ones
        noise(np.exp(-((radius * 5) ** 2))),  # blotches
        noise(np.exp(-((x * 40) ** 2) - (y * 4) ** 2)),  # streaks across
        noise(np.exp(-((x * 4) ** 2) - (y * 40) ** 2)),  # streaks down
        noise(waves(0.07, 0.07, 0.012)),  # slanted ripples
        noise(np.exp(-(((radius - 0.09) / 0.012) ** 2))),  # spots
        -np.minimum(tile[:, None], tile[None]).astype(float),  # tiles
        (check[:, None] ^ check[None]).astype(float),  # checks
        noise(np.exp(-((radius * 2) ** 2))),  # mottle
    ]
    pool = np.stack(layers)
    pool -= pool.mean((1, 2), keepdims=True)
    pool /= pool.std((1, 2), keepdims=True)
    return torch.from_numpy(np.clip(pool, -2.5, 2.5).astype(np.float32)).to(device)


def _on(device: torch.device, values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).to(device)


# Photographs


def _photos(
    views: Views,
    extent: tuple[float, float],
    which: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    library: Library,
    device: torch.device,
) -> torch.Tensor:
    """As `_textures` for the views `which`: a photograph fills the resting picture and is
    mirrored at its edges."""
    size = (math.ceil(extent[0] * CELLS), math.ceil(extent[1] * CELLS))
    chosen = [views.backgrounds[views.which[place]] for place in which]
    different = list(dict.fromkeys(chosen))
    cells = np.stack([_photo(library, photo.variant, split, size) for photo, split in different])
    place = np.array([different.index(photo) for photo in chosen])
    found = cells[
        place[:, None, None],
        :,
        _mirrored(rows, size[0])[:, :, None],
        _mirrored(columns, size[1])[:, None],
    ]
    return _on(device, np.moveaxis(found, -1, 1))


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Index into `length` cells that are followed by their mirror image, and so on."""
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


@lru_cache(maxsize=512)
def _photo(library: Library, number: int, split: str, size: tuple[int, int]) -> np.ndarray:
    """(3, *size) float32: a corner of a photograph, a little muted. All of it would show a thing
    that the scene does not have."""
    picture = Image.fromarray(library.scenery(number, split))
    wide, tall = picture.width / 2, picture.height / 2
    scale = min(wide / size[1], tall / size[0])
    left, top = number % 2 * wide, number // 2 % 2 * tall
    box = (left, top, left + size[1] * scale, top + size[0] * scale)
    cut = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC, box)
    cells = 128 + 0.55 * (np.asarray(cut, np.float32) - 128)
    return np.moveaxis(cells, -1, 0)
