"""Optuna, set up: in memory, seeded, silent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sparsight.core.errors import UserError

if TYPE_CHECKING:
    import optuna

Direction = Literal["minimize", "maximize"]


def new_study(seed: int, directions: Sequence[Direction]) -> optuna.Study:
    """A study whose proposals follow from the seed and from what it is told.

    It is kept nowhere: a search that goes on tells a new one everything again.
    Raises `UserError` where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError(
            "the search needs Optuna: install it with pip install 'sparsight[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(directions=directions, sampler=sampler)
