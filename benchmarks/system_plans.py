"""A model under each of many systems, for the scripts that time them side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparsight.core.errors import UserError
from sparsight.core.registry import entries
from sparsight.systems import load as load_systems
from sparsight.vlm.pipeline import VLM

#: These answer by several requests of their own; their cost is that of the requests.
ASKING = {"select", "pipeline"}
Plans = dict[tuple[str, float | None], VLM]


def all_systems() -> list[str]:
    """Every system but those that ask a model themselves."""
    load_systems()
    return [name for name, found in entries().items() if not ASKING & set(found.slots)]


def planned(
    vlm: VLM, systems: Sequence[str], keeps: Sequence[float], ask: Callable[[VLM], object]
) -> tuple[Plans, dict[str, str]]:
    """The model under each system at each budget, asked once, and why others cannot run on it.

    A system without a budget has one plan, of keep None.
    """
    plans: Plans = {}
    refused: dict[str, str] = {}
    for name in systems:
        budgets = keeps if "keep" in entries()[name].knobs else [None]
        try:
            for keep in budgets:
                plan = vlm.using(name, **({} if keep is None else {"keep": keep}))
                ask(plan)
                plans[name, keep] = plan
        except UserError as error:
            refused[name] = str(error)
    return {key: plan for key, plan in plans.items() if key[0] not in refused}, refused
