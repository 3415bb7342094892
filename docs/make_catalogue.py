"""Write docs/systems.md, the catalogue, from the declarations of the systems.

python docs/make_catalogue.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sparsight
from sparsight.core.registry import Entry, Knob
from sparsight.core.slots import NEEDS, SLOTS, needs_of

PAGE = Path(__file__).resolve().with_name("systems.md")
GROUPS = {
    "system": (
        "Systems",
        "From papers, each tested against numbers that its official code produced.",
    ),
    "peer": ("Peers", "Reference methods that users compare with."),
    "baseline": ("Baselines", "What every method must beat at the same budget."),
}


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """The whole page."""
    catalogue = sparsight.catalogue()
    lines = [
        "# The systems",
        "",
        "Written by `docs/make_catalogue.py` from the declarations of the systems; do not edit.",
        "`sparsight systems NAME` says the same in a terminal. Systems in different slots compose;",
        "data passes the slots in the order " + ", ".join(SLOTS) + ".",
        "",
        "| system | slots | what it does | paper |",
        "|---|---|---|---|",
    ]
    for name, found in catalogue.items():
        slots = ", ".join(found.slots)
        lines.append(f"| [`{name}`](#{name}) | {slots} | {found.title} | {paper(found)} |")
    for group, (title, about) in GROUPS.items():
        lines += ["", f"## {title}", "", about]
        for found in catalogue.values():
            if found.group == group:
                lines += section(found)
    return "\n".join(lines) + "\n"


def section(found: Entry) -> list[str]:
    lines = ["", f"### {found.name}", "", " ".join(found.summary.split())]
    facts = [f"slots: {', '.join(found.slots)}"]
    needs = [NEEDS[need.name] for need in needs_of(found.cls())]
    if needs:
        facts.append(f"needs: {'; '.join(needs)}")
    if found.paper:
        facts.append(f"paper: {paper(found)}")
    facts += [f"published: {line}" for line in found.official]
    lines += ["", *[f"- {fact}" for fact in facts]]
    if found.knobs:
        lines += ["", "| knob | default | allowed | what it is |", "|---|---|---|---|"]
        lines += [row(item) for item in found.knobs.values()]
    return lines


def row(item: Knob) -> str:
    default = f"`{written(item.default)}`" if item.default != () else ""
    return f"| `{item.name}` | {default} | {item.allowed} | {item.help} |"


def written(value: Any) -> str:
    """A default as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def paper(found: Entry) -> str:
    kind, _, number = found.paper.partition(":")
    return f"[{found.paper}](https://arxiv.org/abs/{number})" if kind == "arXiv" else found.paper


if __name__ == "__main__":
    main()
