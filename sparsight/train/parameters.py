"""Which parameters learn, and how fast: patterns over parameter names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from sparsight.core.errors import UserError
from sparsight.train.objective import Learner

#: What wrappers (DDP, torch.compile, FSDP) put into names.
_WRAPPERS = re.compile(r"^module\.|\b(?:_fsdp_wrapped_module|_orig_mod)\.")


def canonical(name: str) -> str:
    """A parameter of a `Learner`, wrapped or not, by the name that patterns are held against:
    the model's own name, or "objective.NAME". An adapted layer keeps its plain name."""
    name = _WRAPPERS.sub("", name).replace(".base_layer.", ".")
    return name.removeprefix("model.")


def names_of(learner: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter by its canonical name; tied ones by each of their names."""
    return {
        canonical(name): parameter
        for name, parameter in learner.named_parameters(remove_duplicate=False)
    }


def choose(learner: Learner, patterns: Sequence[str], stage: str) -> list[str]:
    """Let exactly the parameters learn that match a pattern, and those of adapters.

    Returns their canonical names, tied ones by each name. Raises `UserError` for a pattern that
    matches nothing and for a stage that trains nothing.
    """
    names = names_of(learner)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise unmatched(f"`train` pattern of stage {stage!r}", pattern, names)
    for parameter in names.values():
        parameter.requires_grad_(False)
    for name, parameter in names.items():
        if is_adapter(name) or any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(True)
            parameter.data = parameter.data.float()  # small steps would vanish in bfloat16
    chosen = [name for name, parameter in names.items() if parameter.requires_grad]
    if not chosen:
        raise UserError(f"stage {stage!r} trains nothing: name parameters in its `train`")
    return chosen


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter of peft."""
    return ".lora_" in name


@dataclass(frozen=True)
class Pace:
    """How a parameter learns: the pattern it falls to, its peak rate, its weight decay, and
    whether Muon moves it."""

    pattern: str
    rate: float
    decay: float
    muon: bool = False


def paces(
    learner: Learner,
    rates: Mapping[str, float],
    weight_decay: float,
    stage: str,
    muon: Sequence[str] = (),
) -> dict[str, Pace]:
    """How each learning parameter learns, by canonical name; vectors (norms, biases) never decay,
    and Muon moves matrices alone.

    Raises `UserError` for a pattern that no learning parameter falls to, and for a parameter
    without a rate.
    """
    found = {}
    matrices = []
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            pattern = next((p for p in rates if fnmatchcase(canonical(name), p)), None)
            if pattern is None:
                raise UserError(
                    f'stage {stage!r} has no learning rate for {canonical(name)}: add "*" to rates'
                )
            decay = weight_decay if parameter.ndim > 1 else 0.0
            by_muon = parameter.ndim == 2 and any(fnmatchcase(canonical(name), p) for p in muon)
            found[canonical(name)] = Pace(pattern, rates[pattern], decay, by_muon)
            if parameter.ndim == 2:
                matrices.append(canonical(name))
    for pattern in rates:
        if pattern != "*" and pattern not in {pace.pattern for pace in found.values()}:
            raise unmatched(f"`rates` pattern of stage {stage!r}", pattern, found)
    for pattern in muon:
        if not any(fnmatchcase(name, pattern) for name in matrices):
            raise unmatched(f"`muon` pattern of stage {stage!r}", pattern, matrices)
    return found


def groups_of(model: nn.Module, paces: Mapping[str, Pace]) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser, one a pace; `model` may be wrapped (DDP, FSDP)."""
    groups: dict[Pace, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pace = paces[canonical(name)]
            empty = {"params": [], "lr": pace.rate, "weight_decay": pace.decay}
            more = {"pattern": pace.pattern, "muon": pace.muon}
            group = groups.setdefault(pace, {**empty, **more})
            group["params"].append(parameter)
    return list(groups.values())


def unmatched(what: str, pattern: str, names: Collection[str]) -> UserError:
    """A `UserError` for a pattern without a match; suggests the nearest module or parameter."""
    known = {name.rpartition(".")[0] + ".*" for name in names} | set(names)
    near = difflib.get_close_matches(pattern, sorted(known), n=1, cutoff=0.3)
    example = next(iter(names), None)
    guess = f"; did you mean {near[0]!r}?" if near else f"; names look like {example!r}"
    return UserError(f"{what}: no parameter matches {pattern!r}{guess}")
