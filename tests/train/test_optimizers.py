"""Muon for the matrices that a stage names, AdamW for all else."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from sparsight.train.objective import Learner
from sparsight.train.optimizers import Together, optimizer
from sparsight.train.parameters import groups_of, paces
from tests.train.tiny import Spell, build

RATE = 0.01


@pytest.fixture
def learner() -> Learner:
    torch.manual_seed(0)
    return Learner(Spell(build()))


def moved(learner: Learner, *muon: str) -> dict[str, Tensor]:
    """How far each parameter goes in one step along random gradients of unlike sizes."""
    found = paces(learner, {"*": RATE}, 0.0, "spell", muon)
    made = optimizer(groups_of(learner, found), (0.9, 0.99), fused=False)
    before = {name: p.detach().clone() for name, p in learner.named_parameters()}
    for parameter in learner.parameters():
        slope = torch.nn.init.orthogonal_(torch.empty_like(parameter)) if parameter.ndim > 1 else 1
        scale = torch.logspace(0, -1.5, len(parameter)).reshape(-1, *[1] * (parameter.ndim - 1))
        parameter.grad = slope * scale
    made.step()
    return {name: before[name] - p.detach() for name, p in learner.named_parameters()}


def evenness(step: Tensor) -> float:
    """The smallest over the largest singular value."""
    values = torch.linalg.svdvals(step)
    return float(values[-1] / values[0])


def test_the_named_matrices_move_alike_in_all_directions_and_no_others(learner: Learner):
    steps = moved(learner, "*layers.1.*")
    squares = {name: step for name, step in steps.items() if name.endswith("q_proj.weight")}
    (other, named) = squares.values()
    assert evenness(named) > 0.4
    assert evenness(other) < 0.2
    vectors = [step for name, step in steps.items() if "layers.1" in name and step.ndim == 1]
    assert vectors
    for step in vectors:  # AdamW's first step: the rate, up or down
        torch.testing.assert_close(step.abs(), torch.full_like(step, RATE), rtol=1e-3, atol=0)


def test_a_step_of_muon_is_as_large_as_one_of_adamw(learner: Learner):
    steps = moved(learner, "*layers.1.*")
    for name in ("q_proj", "up_proj", "down_proj"):
        sizes = [s.square().mean().sqrt() for n, s in steps.items() if f"{name}.weight" in n]
        assert 0.1 < sizes[1] / sizes[0] < 0.4  # 0.2: a usual share of AdamW's largest step


def test_without_names_there_is_only_adamw(learner: Learner):
    found = paces(learner, {"*": RATE}, 0.0, "spell")
    assert type(optimizer(groups_of(learner, found), (0.9, 0.99), fused=False)) is AdamW


def test_optimizers_together_follow_one_schedule_also_after_loading():
    def pair() -> tuple[Together, list[nn.Parameter]]:
        parameters = [nn.Parameter(torch.ones(1)) for _ in range(2)]
        return Together([SGD([p], lr=1.0, momentum=0.5) for p in parameters]), parameters

    def train(made: Together, schedule: LambdaLR, parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = torch.ones(1)
        made.step()
        schedule.step()

    first, parameters = pair()
    schedule = LambdaLR(first, lambda step: 0.5**step)
    for _ in range(2):
        train(first, schedule, parameters)
    assert parameters[0].item() == parameters[1].item() == 1 - 1 - 0.5 * 1.5
    again, copies = pair()
    resumed = LambdaLR(again, lambda step: 0.5**step)
    for copy, parameter in zip(copies, parameters, strict=True):
        copy.data.copy_(parameter.data)
    again.load_state_dict(deepcopy(first.state_dict()))
    resumed.load_state_dict(schedule.state_dict())
    train(first, schedule, parameters)
    train(again, resumed, copies)
    assert [p.item() for p in copies] == [p.item() for p in parameters]
    assert [group["lr"] for group in again.parts[1].param_groups] == [0.125]
