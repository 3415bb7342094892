"""A plan: a model plus the systems and knobs on it. One YAML file.

```yaml
model: llava-hf/llava-onevision-qwen2-0.5b-ov-hf
frames: uniform:16
systems:
  - fastervlm: {keep: 144}
  - fastv: {keep: 0.5, layer: 3}
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sparsight.core.errors import UserError, unknown
from sparsight.core.registry import build
from sparsight.core.slots import slots_of


@dataclass(frozen=True)
class Plan:
    """A model, the frame selection for films, and systems in different slots.

    `systems` are built systems; `frames` is a selection such as "uniform:8" (see
    `sparsight.media.sampling`) or None for the family's own default.
    """

    model: str = "mini"
    systems: tuple[Any, ...] = ()
    frames: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_slots(self.systems)

    def using(self, system: Any) -> Plan:
        """This plan with one more system."""
        return dataclasses.replace(self, systems=(*self.systems, system))

    def to_yaml(self) -> str:
        """The plan as YAML text, every knob written out."""
        body: dict[str, Any] = {"model": self.model}
        if self.frames is not None:
            body["frames"] = self.frames
        if self.seed:
            body["seed"] = self.seed
        body["systems"] = [{system.system_name: _knobs(system)} for system in self.systems]
        return yaml.safe_dump(body, sort_keys=False, default_flow_style=None)

    @classmethod
    def from_yaml(cls, text: str, origin: str = "plan") -> Plan:
        """Read a plan. Raises `UserError` that names the key or value and what is allowed."""
        try:
            body = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" at line {mark.line + 1}" if mark is not None else ""
            raise UserError(f"{origin} is not valid YAML{line}") from None
        if not isinstance(body, dict):
            raise UserError(f"{origin} must be a mapping with the keys model and systems")
        allowed = {item.name for item in dataclasses.fields(cls)}
        for key in body:
            if key not in allowed:
                raise unknown(f"key in {origin}:", str(key), allowed)
        seed = body.get("seed", 0)
        if type(seed) is not int:
            raise UserError(f"{origin}: seed must be a whole number, not {seed!r}")
        for key in ("model", "frames"):
            if not isinstance(body.get(key, ""), str):
                raise UserError(f"{origin}: {key} must be text, not {body[key]!r}")
        return cls(
            model=body.get("model", "mini"),
            systems=tuple(_systems(body.get("systems") or [], origin)),
            frames=body.get("frames"),
            seed=seed,
        )

    def save(self, path: str | Path) -> None:
        """Write the plan to a YAML file."""
        Path(path).write_text(self.to_yaml())

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan from a YAML file; a missing or broken file is a `UserError`."""
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise UserError(f"cannot read the plan {path}: {reason}") from None
        return cls.from_yaml(text, origin=str(path))


def check_slots(systems: Sequence[Any]) -> None:
    """Refuse two systems in one slot, with one line that names both."""
    taken: dict[str, str] = {}
    for system in systems:
        for slot in slots_of(system):
            if slot in taken:
                raise UserError(
                    f"{system.system_name} and {taken[slot]} both fill the slot {slot!r}: "
                    "use one of them"
                )
            taken[slot] = system.system_name


def parse_system(text: str) -> Any:
    """A system from "name" or "name:knob=value,knob=value", as the command line takes it."""
    name, _, rest = text.partition(":")
    knobs: dict[str, str] = {}
    key = None
    for part in rest.split(",") if rest else []:
        if "=" in part:
            key, _, value = part.partition("=")
            knobs[key.strip()] = value.strip()
        elif key is not None:
            knobs[key.strip()] += "," + part.strip()  # a list value such as shape=16,12,12
        else:
            raise UserError(f"cannot read {text!r}: write NAME:knob=value,knob=value")
    return build(name.strip(), knobs)


def _systems(items: Any, origin: str) -> Iterable[Any]:
    if not isinstance(items, list):
        raise UserError(f"{origin}: systems must be a list such as '- fastervlm: {{keep: 0.25}}'")
    for item in items:
        if isinstance(item, str):
            yield build(item, {})
        elif isinstance(item, dict) and len(item) == 1:
            name, knobs = next(iter(item.items()))
            if not isinstance(knobs or {}, dict):
                raise UserError(f"{origin}: the knobs of {name} must be a mapping")
            yield build(str(name), knobs or {})
        else:
            raise UserError(f"{origin}: each system is a name, or one name with its knobs")


def _knobs(system: Any) -> dict[str, Any]:
    values = {item.name: getattr(system, item.name) for item in dataclasses.fields(system)}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }
