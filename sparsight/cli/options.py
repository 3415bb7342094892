"""The options that several commands share, and what they stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsight.cli.terminal import hush, working
from sparsight.core.errors import UserError

if TYPE_CHECKING:
    from sparsight.core.plan import Plan
    from sparsight.vlm.pipeline import VLM

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help='A hub id, a folder, or "mini", which is embedded.',
        show_default="mini",
    ),
]
System = Annotated[
    list[str] | None,
    typer.Option(
        "--system",
        "-s",
        metavar="NAME[:knob=value,...]",
        help="A system to put on the model; may be given several times.",
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="A plan: model, systems and knobs.")
]
Tasks = Annotated[
    str, typer.Option(metavar="NAMES", help="Tasks of the world to ask, such as color,move.")
]
Data = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Your own questions, one JSON a line.")
]
Frames = Annotated[
    str | None,
    typer.Option(
        metavar="SELECTION",
        help="Frames of a film: uniform:8, centers:8, fps:1, at:0.5,2.0, keyframes, all.",
    ),
]
MaxTokens = Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.", show_default="0")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default="cuda where there is one")
]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16; auto: as it is stored.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def plan_of(
    model: str | None,
    systems: Sequence[str] | None,
    file: Path | None,
    frames: str | None,
    seed: int | None,
) -> Plan:
    """The plan that the options describe: a plan file's, with what else was given on top."""
    import sparsight.systems
    from sparsight.core.plan import Plan, parse_system
    from sparsight.media import parse_selection

    sparsight.systems.load()
    plan = Plan() if file is None else Plan.load(file)
    for text in systems or ():
        plan = plan.using(parse_system(text))
    given: dict[str, Any] = {"model": model, "frames": frames, "seed": seed}
    plan = dataclasses.replace(plan, **{k: v for k, v in given.items() if v is not None})
    if plan.frames is not None:
        parse_selection(plan.frames)
    return plan


def load_vlm(plan: Plan, device: str | None, dtype: str, quiet: bool = False) -> VLM:
    """Load the plan's model, with the plan on it."""
    with working(f"loading {plan.model}", quiet):
        hush(quiet)
        import sparsight

        return sparsight.load(plan, dtype=dtype, device=device)


def check_media(media: Sequence[str]) -> None:
    """Refuse a path that leads nowhere before a model is loaded; the loader checks the rest."""
    for source in media:
        if not is_url(source) and source.strip() and not Path(source).exists():
            raise UserError(f"{source}: there is no such file; check the path")


def is_url(text: str) -> bool:
    return "://" in text or text.lower().startswith("data:")
