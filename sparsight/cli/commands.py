"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import sparsight
from sparsight.cli.ask import ask
from sparsight.cli.compare import compare
from sparsight.cli.demo import demo
from sparsight.cli.models import models
from sparsight.cli.see import see
from sparsight.cli.systems import systems
from sparsight.cli.train import train
from sparsight.cli.tune import tune
from sparsight.cli.world import world

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Ask image and video language models with a fraction of their visual tokens.",
)
for command in (ask, see, compare, tune, systems, models, demo, train):
    app.command()(command)
app.add_typer(world, name="world")


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Without a command: the version, or this help."""
    if version:
        typer.echo(sparsight.__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
