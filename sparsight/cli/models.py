"""`sparsight models`: the families of checkpoints, and what each can be asked about."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sparsight.cli import options
from sparsight.cli.terminal import hush, tables

if TYPE_CHECKING:
    from sparsight.vlm.families.base import Family

_MEDIA = {"picture": "picture", "pictures": "several", "film": "film", "mixed": "mixed"}


def models(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the families of models and what each supports."""
    hush(quiet=json)
    from sparsight.vlm.families import family_of, model_types

    found = {kind: family_of(kind) for kind in model_types()}
    if json:
        print(jsonlib.dumps([as_dict(kind, family) for kind, family in found.items()]))
    else:
        _list(found)


def as_dict(kind: str, family: type[Family]) -> dict[str, Any]:
    """One family as plain values."""
    return {
        "name": family.name,
        "label": family.label,
        "model_type": kind,
        "examples": list(family.examples),
        "supports": {name: name in family.supports for name in _MEDIA},
        "frames": family.default_frames,
    }


def _list(found: dict[str, type[Family]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("family", no_wrap=True)
    for heading in _MEDIA.values():
        table.add_column(heading, justify="center")
    table.add_column("for example", overflow="fold")
    for family in found.values():
        marks = ["yes" if name in family.supports else "-" for name in _MEDIA]
        table.add_row(Text(family.label), *marks, Text("\n".join(family.examples)))
    console = tables()
    console.print(table)
    console.print("\nmini is embedded; any other model is a hub id or a folder.", style="dim")
