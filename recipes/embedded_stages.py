"""What the embedded models are shown, and the stages of their training.

LOOK teaches the tower alone, from dense labels of single views. In ALIGN the tower rests and all
the rest learns to answer: all questions of a scene stand in one row behind its visual tokens, each
blind to the others. They are about single frames, which cost little, so that what a question names
is found and read off in as many scenes as possible. SPELL lets the tower alone look at many
signs, since characters come last. ASK goes on with pictures of all sizes and, above all, with
films; POLISH asks about everything, at rates that fall to nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from embedded_data import Layout, Mix, Scenes
from embedded_models import SIDE
from embedded_objectives import Ask, Look

from sparsight.train.recipe import Stage

PICTURE_TASKS = {
    "exists": 1.0,
    "color": 0.5,
    "shape": 0.7,
    "count": 1.2,
    "where": 1.2,
    "read": 3.0,
    "box": 0.5,
    "region": 0.4,
}
FILM_TASKS = {
    "move": 3.0,
    "order": 3.0,
    "repeat": 2.0,
    "when": 1.2,
    "state": 1.5,
    "needle": 1.0,
    "cause": 0.7,
    "caption": 0.3,
    "summary": 0.3,
    "exists": 0.2,
    "count": 0.2,
}
#: Learned in minutes, so these answers weigh less; learned last, so those weigh more.
WEIGHTS = {"color": 0.5, "exists": 0.7, "move": 2.0, "order": 2.0, "repeat": 1.5, "read": 1.5}

#: Samples of a batch, times this: 1 suits two cores, 16 a large GPU.
SCALE = 1

VIEWS = Mix(
    {Layout("view", 32 * SCALE): 0.6, Layout("view", 32 * SCALE, side=2 * SIDE): 0.4},
    PICTURE_TASKS,
    {},
    {},
)
SIGNS = replace(VIEWS, picture_tasks={**PICTURE_TASKS, "read": 10.0})
FRAMES = Mix(
    {
        Layout("film", 32 * SCALE): 0.85,
        Layout("film", 16 * SCALE, frames=2): 0.1,
        Layout("picture", 6 * SCALE): 0.05,
    },
    PICTURE_TASKS,
    {"move": 1.0},
    WEIGHTS,
)
SCENES = Mix(
    {
        Layout("film", 8 * SCALE, frames=8): 0.36,
        Layout("film", 16 * SCALE, frames=4): 0.28,
        Layout("film", 4 * SCALE, frames=16): 0.12,
        Layout("film", 2 * SCALE, frames=32): 0.03,
        Layout("film", 1 * SCALE, frames=64): 0.04,
        Layout("picture", 8 * SCALE): 0.08,
        Layout("picture", 3 * SCALE, side=2 * SIDE): 0.06,
        Layout("pair", 6 * SCALE): 0.03,
    },
    PICTURE_TASKS,
    FILM_TASKS,
    WEIGHTS,
)
EVERYTHING = Mix(
    {
        Layout("film", 8 * SCALE, frames=8): 0.26,
        Layout("film", 16 * SCALE, frames=4): 0.2,
        Layout("film", 4 * SCALE, frames=16): 0.1,
        Layout("film", 2 * SCALE, frames=32): 0.03,
        Layout("film", 1 * SCALE, frames=64): 0.03,
        Layout("film", 32 * SCALE): 0.12,
        Layout("picture", 8 * SCALE): 0.14,
        Layout("picture", 3 * SCALE, side=2 * SIDE): 0.08,
        Layout("pair", 6 * SCALE): 0.04,
    },
    PICTURE_TASKS,
    FILM_TASKS,
    {**WEIGHTS, "read": 3.0, "order": 3.0, "where": 1.5},
)


def views() -> Scenes:
    return Scenes(VIEWS, first_seed=0, asking=False)


def signs() -> Scenes:
    return Scenes(SIGNS, first_seed=1_000_000, asking=False)


def frames() -> Scenes:
    return Scenes(FRAMES, first_seed=5_000_000)


def films() -> Scenes:
    return Scenes(SCENES, first_seed=10_000_000)


def everything() -> Scenes:
    return Scenes(EVERYTHING, first_seed=50_000_000)


#: Matrices between hidden states, which Muon moves: at equal steps its losses are clearly lower.
TOWER_MATRICES = ("model.vision_tower.encoder.*",)
READER_MATRICES = ("model.multi_modal_projector.*", "model.language_model.layers.*")

TOWER = ("model.vision_tower.*", "objective.look.*")
READER = (
    "model.multi_modal_projector.*",
    "model.image_newline",
    "model.language_model.*",
    "objective.watch.*",
)

stage = partial(Stage, batch=1, weight_decay=0.02, betas=(0.9, 0.98), precision="bfloat16")
STAGES = (
    stage(
        "look",
        data=views,
        objective=Look,
        train=TOWER,
        rates={"*": 1.5e-3},
        muon=TOWER_MATRICES,
        steps=3000,
        floor=0.05,
    ),
    stage(
        "align",
        data=frames,
        objective=Ask,
        train=READER,
        rates={"*": 1.5e-3},
        muon=READER_MATRICES,
        steps=610,
        schedule="constant",
    ),
    stage(
        "spell",
        data=signs,
        objective=Look,
        train=TOWER,
        rates={"*": 7e-4},
        muon=TOWER_MATRICES,
        steps=1000,
    ),
    stage(
        "ask",
        data=films,
        objective=Ask,
        train=READER,
        rates={"*": 1.5e-3},
        muon=READER_MATRICES,
        steps=620,
        schedule="constant",
    ),
    stage(
        "polish",
        data=everything,
        objective=Ask,
        train=READER,
        rates={"*": 1.5e-3},
        muon=READER_MATRICES,
        steps=1200,
        floor=0.01,
        save_every=200,
    ),
)


def shortened(**steps: int) -> tuple[Stage, ...]:
    """The stages that are named, of so many steps: for a model that begins with trained weights."""
    return tuple(replace(each, steps=steps[each.name]) for each in STAGES if each.name in steps)
