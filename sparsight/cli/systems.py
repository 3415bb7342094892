"""`sparsight systems`: the catalogue, and one system's page."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sparsight.cli import options
from sparsight.cli.terminal import tables

if TYPE_CHECKING:
    from sparsight.core.registry import Entry


def systems(
    name: Annotated[str | None, typer.Argument(help="A system; without it, all of them.")] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List the systems, or explain one."""
    import sparsight
    from sparsight.core.registry import entry

    catalogue = sparsight.catalogue()
    if name is not None:
        if json:
            print(jsonlib.dumps(as_dict(entry(name))))
        else:
            _explain(entry(name))
    elif json:
        print(jsonlib.dumps([as_dict(item) for item in catalogue.values()]))
    else:
        _list(list(catalogue.values()))


def as_dict(entry: Entry) -> dict[str, Any]:
    """What the catalogue knows of one system, as plain values."""
    return {
        "name": entry.name,
        "title": entry.title,
        "group": entry.group,
        "slots": list(entry.slots),
        "paper": entry.paper,
        "official": list(entry.official),
        "summary": entry.summary,
        "knobs": [
            {
                "name": knob.name,
                "type": knob.type,
                "default": knob.default,
                "allowed": knob.allowed,
                "help": knob.help,
            }
            for knob in entry.knobs.values()
        ],
    }


def _list(found: list[Entry]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "slot", "what it does", "group"):
        table.add_column(heading, no_wrap=heading in ("name", "group"))
    for item in found:
        cells = (item.name, ", ".join(item.slots), item.title, item.group)
        table.add_row(*(Text(cell) for cell in cells))
    tables().print(table)


def _explain(entry: Entry) -> None:
    console = tables()
    console.print(Text.assemble((entry.name, "bold"), f"  {entry.title}"))
    facts = [entry.group, "slot " + ", ".join(entry.slots), entry.paper]
    console.print(Text(" · ".join(fact for fact in facts if fact), style="dim"))
    if entry.summary:
        console.print()
        console.print(Text(_unwrapped(entry.summary)))
    if entry.knobs:
        console.print()
        table = Table(box=None, pad_edge=False)
        for heading in ("knob", "default", "what it sets", "allowed"):
            table.add_column(heading, no_wrap=heading in ("knob", "default"))
        for knob in entry.knobs.values():
            cells = (knob.name, _written(knob.default), knob.help, knob.allowed)
            table.add_row(*(Text(cell) for cell in cells))
        console.print(table)
    if entry.official:
        console.print()
        console.print("published figures", style="bold")
        for line in entry.official:
            console.print(Padding(Text(line), (0, 0, 0, 2)))
    console.print()
    console.print(Text(f'sparsight ask film.mp4 "..." --system {_example(entry)}', style="dim"))


def _unwrapped(text: str) -> str:
    """A docstring's paragraphs, each on one line, for the console to wrap."""
    paragraphs = text.replace("\r", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _written(value: Any) -> str:
    """A default as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _example(entry: Entry) -> str:
    knob = next(iter(entry.knobs.values()), None)
    return entry.name if knob is None else f"{entry.name}:{knob.name}={_written(knob.default)}"
