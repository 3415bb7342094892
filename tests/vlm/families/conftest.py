"""Checkpoints that live as long as the session, and torchvision where it can be had."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torchvision_import
from harness import CASES, Checkpoint, Recipe, checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Checkpoint]:
    made: dict[str, Checkpoint] = {}

    def get(recipe: Recipe) -> Checkpoint:
        name = type(recipe).__name__
        if name not in made:
            made[name] = checkpoint(recipe, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a family's tests the cases it supports and the sizes to compare."""
    recipe = getattr(metafunc.cls, "recipe", None)
    if recipe is None:
        return
    if "case" in metafunc.fixturenames:
        names = [
            name
            for name, case in CASES.items()
            if case.needs <= recipe.family.supports
            and name not in recipe.beyond
            and name in (metafunc.cls.only or CASES)
        ]
        metafunc.parametrize("case", [CASES[name] for name in names], ids=names)
    for argument, sizes in (("size", recipe.sizes), ("film_size", recipe.film_sizes)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, sizes, ids=[f"{h}x{w}" for h, w in sizes])


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision; skips where it is absent."""
    if torchvision_import.MODULE is None:
        pytest.skip("torchvision is not installed: the video processors need it")
    return torchvision_import.MODULE
