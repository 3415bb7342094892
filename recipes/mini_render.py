"""Pixels of a scene. Sprites are drawn once per kind and size and composited with numpy."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from mini_scenes import COLORS, LETTERS, SIDE, Scene
from PIL import Image, ImageDraw, ImageFont

_FINE = 4  # sprites are drawn this much larger, then scaled down, for soft edges


def frame_times(frames: int) -> list[float]:
    """The time of each frame: 0 to 1 in even steps; a still picture shows time 1."""
    return [1.0] if frames == 1 else np.linspace(0, 1, frames).tolist()


def render(scene: Scene) -> np.ndarray:
    """The frames as (T, SIDE, SIDE, 3) uint8 RGB."""
    return render_with_owners(scene)[0]


def render_with_owners(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The frames (T, SIDE, SIDE, 3) uint8, and which thing owns each pixel as
    (T, SIDE, SIDE) uint8: 0 for the background, i + 1 for `scene.things[i]`."""
    rng = np.random.default_rng(scene.background)
    canvas = np.repeat(_texture(rng)[None], scene.frames, axis=0)
    owners = np.zeros(canvas.shape[:3], np.uint8)
    for index, thing in enumerate(scene.things):
        rgb = np.array(COLORS[thing.color], np.float32) + rng.uniform(-12, 12, 3)
        alpha = _sprite(thing.kind, thing.size)
        for frame, time in enumerate(frame_times(scene.frames)):
            if (box := thing.box(time)) is None:
                continue
            left, top, right, bottom = box
            patch = canvas[frame, top:bottom, left:right]
            patch += alpha[..., None] * (rgb.astype(np.float32) - patch)
            owners[frame, top:bottom, left:right][alpha > 0.5] = index + 1
    noise = rng.standard_normal(canvas.shape[1:], np.float32) * np.float32(rng.uniform(2, 7))
    for frame in canvas:  # one grain, shifted from frame to frame: drawing noise is the slow part
        frame += noise
        noise = np.roll(noise, tuple(rng.integers(SIDE, size=2)), (0, 1))
    return np.clip(canvas, 0, 255).astype(np.uint8), owners


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A muted cloudy background with grain, (SIDE, SIDE, 3) float32."""
    base = rng.uniform(85, 165) + rng.uniform(-14, 14, 3)
    clouds = _cloud(rng, 5) * rng.uniform(4, 14) + _cloud(rng, 28, 1) * rng.uniform(2, 12)
    return (base + clouds).astype(np.float32)


def _cloud(rng: np.random.Generator, cells: int, channels: int = 3) -> np.ndarray:
    """Smooth noise of about unit spread: `cells` x `cells` values, enlarged to the picture."""
    noise = rng.standard_normal((channels, cells, cells), np.float32)
    planes = [Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for p in noise]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


@lru_cache(maxsize=1024)
def _sprite(kind: str, size: int) -> np.ndarray:
    """Opacity of a thing in its box, (size, size) float32 in 0..1."""
    big = size * _FINE
    image = Image.new("L", (big, big))
    draw = ImageDraw.Draw(image)
    if kind in LETTERS:
        image = _letter(kind, big)
    elif kind == "circle":
        draw.ellipse((0, 0, big - 1, big - 1), fill=255)
    elif kind == "ring":
        draw.ellipse((0, 0, big - 1, big - 1), outline=255, width=round(big * 0.2))
    elif kind == "square":
        draw.rectangle((0, 0, big - 1, big - 1), fill=255)
    elif kind == "triangle":
        draw.polygon([(big / 2, 0), (big - 1, big - 1), (0, big - 1)], fill=255)
    elif kind == "cross":
        third = big * 0.34
        draw.rectangle((third, 0, big - third, big - 1), fill=255)
        draw.rectangle((0, third, big - 1, big - third), fill=255)
    elif kind == "star":
        radii = [big / 2, big * 0.21]
        points = [
            (
                big / 2 + radii[k % 2] * math.sin(k * math.pi / 5),
                big / 2 - radii[k % 2] * math.cos(k * math.pi / 5),
            )
            for k in range(10)
        ]
        draw.polygon(points, fill=255)
    else:
        raise ValueError(f"unknown kind {kind!r}")
    small = image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def _letter(letter: str, side: int) -> Image.Image:
    """A thick capital that fills its square box."""
    font = ImageFont.load_default(side)
    stroke = side // 16
    left, top, right, bottom = font.getbbox(letter, stroke_width=stroke)
    glyph = Image.new("L", (math.ceil(right - left), math.ceil(bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), letter, 255, font, stroke_width=stroke)
    return glyph.resize((side, side), Image.Resampling.BICUBIC)
