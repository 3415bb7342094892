"""`sparsight train`: a recipe, run to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsight.cli import options
from sparsight.cli.terminal import hush, notes, working
from sparsight.core.errors import UserError


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A Python file with a function recipe().")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where everything goes.", show_default="out/NAME"),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Another value, such as stages.look.steps=100; may be given several times.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this stage; may be given several times."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop with a checkpoint after so long.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu keeps off a GPU.", show_default="cuda where there is one"),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Train a model by a recipe."""
    values = dict(_pair(text) for text in set or ())
    with working(f"reading {recipe.name}"):
        hush()
        from sparsight.train.progress import Show
        from sparsight.train.recipe_file import load_recipe
        from sparsight.train.run import run
        from sparsight.train.run_folder import is_main

        loaded = load_recipe(recipe)
    folder = Path("out", loaded.name) if out is None else out
    with Show() as show:
        outcome = run(
            loaded,
            folder,
            resume,
            values,
            stage,
            minutes=minutes,
            device=device,
            callbacks=show.callbacks,
        )
    if not is_main():
        return
    if outcome.model is not None:
        print(outcome.model)
    else:
        where = f"step {outcome.step} of stage {outcome.stage}"
        notes().print(f"time is up after {where}; go on with --resume", markup=False)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write KEY=VALUE, such as stages.look.steps=100")
    return key.strip(), value.strip()
