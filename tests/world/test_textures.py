from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sparsight.world.library import Library
from sparsight.world.scene import Background, Camera, Steps, always, constant
from tests.world.painting import frames_of, horses, scene, thing


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return horses(tmp_path_factory.mktemp("pictures"))


def test_the_camera_pans_over_the_background() -> None:
    still = scene(aspect=2.0)
    panned = scene(aspect=2.0, camera=Camera(constant(16 / 112), constant(-8 / 112)))
    one, other = frames_of(still)[0], frames_of(panned)[0]
    assert (one[:104, 16:] - other[8:, :-16]).abs().float().mean() < 0.5
    assert (one[:104] - other[8:]).abs().float().mean() > 1


def test_the_camera_zooms_into_the_background() -> None:
    near = frames_of(scene(camera=Camera(zoom=constant(2.0))), 100)[0].float()
    middle = frames_of(scene(), 200)[0, 50:150, 50:150].float()
    assert (near - middle).abs().mean() < 0.6


def test_backgrounds_change_at_the_cut() -> None:
    texts = (Background("texture", 1), Background("texture", 2))
    shown = frames_of(scene(backgrounds=Steps((0.0, 1.0), texts)))
    assert (shown[0] == shown[1]).all()
    assert (shown[2] == shown[3]).all()
    assert (shown[1] - shown[2]).abs().float().mean() > 5


def test_textures_are_muted_and_each_its_own() -> None:
    ground = [frames_of(scene(backgrounds=always(Background("texture", s))))[0] for s in range(12)]
    for one in ground:
        assert 40 < one.float().mean() < 210
        assert 2 < one.float().std() < 45
        assert one.float().std((0, 1)).mean() > 1  # not one flat color
    means = torch.stack([one.float().mean((0, 1)) for one in ground])
    assert torch.cdist(means, means)[~torch.eye(12, dtype=torch.bool)].min() > 1


@pytest.mark.parametrize("number", range(4))
def test_a_corner_of_a_photograph_is_the_background_mirrored_beyond(
    library: Library, number: int
) -> None:
    photo = always(Background("photo", 0, number))
    shown = frames_of(scene(backgrounds=photo), library=library)[0].float()
    assert shown[:, :50].mean() < 90
    assert shown[:, 62:].mean() > 160
    aside = scene(backgrounds=photo, camera=Camera(constant(0.5)))
    light = frames_of(aside, library=library)[0].float()
    assert light[:, 12:-12].min() > 150  # the light half and its mirror image


def test_light_scales_all_pixels() -> None:
    what = scene(thing(name="circle", color="white"))
    full = frames_of(what)[0]
    half = frames_of(replace(what, light=constant(0.5)))[0]
    assert (half - full / 2).abs().max() <= 1
    bright = frames_of(replace(what, light=constant(1.4)))[0]
    assert (bright - (full * 1.4).clamp(max=255)).abs().float().mean() < 1
    assert bright.max() == 255


def test_grain_has_the_spread_asked_for_and_is_new_in_every_frame() -> None:
    ground = frames_of(scene())
    for spread in (2.0, 7.0):
        grain = (frames_of(scene(noise=spread)) - ground).float()
        assert grain.std().item() == pytest.approx(spread, rel=0.06)
        assert abs(grain.mean().item()) < 0.1
        a, b = grain[0].flatten(), grain[1].flatten()
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.03
    other = (frames_of(scene(noise=7.0, seed=6)) - ground).float()
    assert abs(torch.corrcoef(torch.stack([other.flatten(), grain.flatten()]))[0, 1]) < 0.03
