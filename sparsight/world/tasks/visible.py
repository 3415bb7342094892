"""What is to be seen of each thing in each frame. Shape suffixes: T frames, K things."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sparsight.world.scene import Scene, boxes

_SMALLEST = 0.05  # units that a thing must measure both ways to be recognised
_INSIDE = 0.7  # share of its box that must lie in the picture
_COVERED = 0.3  # share of what lies in the picture that others may cover
_STILL = 0.02  # shares of the picture that the edges of something at rest may move
_OFTEN = 0.5  # share of the frames in which a thing that a film "has" must be clear


class Visible:
    """A scene as its frames show it, without words.

    box (T, K, 4) as of `boxes`; clip: the same, cut off at the picture's edges; middle (T, K, 2)
    in shares of the picture. there (T, K): the thing exists; in_view: some of its box is in the
    picture, if others do not hide it; clear: it is large enough and hardly hidden or cut off.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.frames = scene.frames
        self.step = 1 / scene.fps
        self.count = len(scene.things)
        box = boxes(scene, scene.times)
        clip = np.minimum(np.maximum(box, 0.0), 1.0)
        wide, tall = clip[..., 2] - clip[..., 0], clip[..., 3] - clip[..., 1]
        area = wide * tall
        self.box, self.clip = box, clip
        self.middle = (box[..., :2] + box[..., 2:]) / 2
        self.there = box[..., 0] == box[..., 0]
        self.in_view = area > 0
        full = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
        #: (T, K) share of what lies in the picture that boxes of things in front may cover
        self.covered = self._hidden(clip) / np.where(self.in_view, area, 1.0)
        self.clear = (
            (np.minimum(wide * scene.width, tall * scene.height) >= _SMALLEST)
            & (area >= _INSIDE * full)
            & (self.covered <= _COVERED)
        )
        share = self.clear.mean(0)
        self.always: list[bool] = (share == 1).tolist()
        self.often: list[bool] = (share >= _OFTEN).tolist()
        self.ever: list[bool] = self.in_view.any(0).tolist()

    def _hidden(self, clip: np.ndarray) -> np.ndarray:
        """(T, K) how much of each clipped box the boxes of things in front of it may cover."""
        if self.count == 1:
            return np.zeros(clip.shape[:2])
        low = np.maximum(clip[:, :, None, :2], clip[:, None, :, :2])
        high = np.minimum(clip[:, :, None, 2:], clip[:, None, :, 2:])
        shared = np.maximum(high - low, 0.0).prod(-1)
        shared[~(shared > 0)] = 0.0  # NaN where one of the two does not exist
        return (shared * _in_front(self.count)).sum(2)

    @cached_property
    def still(self) -> list[bool]:
        """Whether each thing is clear in all frames and keeps its place and size."""
        if self.frames == 1:
            return self.always
        return (((self.box.max(0) - self.box.min(0)) <= _STILL).all(-1) & self.always).tolist()

    @cached_property
    def steady_camera(self) -> bool:
        camera = self.scene.camera
        return all(len(track.values) == 1 for track in (camera.x, camera.y, camera.zoom))


_FRONT = {k: np.triu(np.ones((k, k)), 1) for k in range(9)}


def _in_front(count: int) -> np.ndarray:
    """(K, K) 1 where the second lies in front of the first."""
    return _FRONT[count] if count in _FRONT else np.triu(np.ones((count, count)), 1)
