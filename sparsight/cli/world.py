"""`sparsight world`: films and pictures with exact ground truth, to files or onto a sheet."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sparsight.cli import options
from sparsight.cli.files import check_target, write_whole
from sparsight.cli.terminal import notes, tables, working
from sparsight.core.errors import UserError

if TYPE_CHECKING:
    from sparsight.world.folder import Made
    from sparsight.world.request import Asked
    from sparsight.world.tasks import Form

world = typer.Typer()

_MOST_SHOWN = 20  # scenes on one sheet

Split = Annotated[str, typer.Option(help="train, val, test; combos: pairs never trained on.")]
Task = Annotated[
    str | None, typer.Option(help="A family of questions.", show_default="a mixture of all")
]
Frames = Annotated[
    int | None, typer.Option(help="1 makes pictures.", show_default="what suits the task")
]
Aspect = Annotated[float, typer.Option(help="Width over height.")]
Fps = Annotated[float, typer.Option(help="Frames a second.")]
SeedOption = Annotated[int, typer.Option(help="Another seed, other scenes.")]
Sprites = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Photographs by class and spoken digits, as folders or zips."),
]
FormName = Annotated[str, typer.Option(help="open, or choice: lettered options.")]
Turns = Annotated[int, typer.Option(help="Questions of one conversation about a scene.")]


@world.callback(invoke_without_command=True)
def world_help(context: typer.Context) -> None:
    """Make or show synthetic films with exact ground truth."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@world.command()
def make(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, made if need be.")],
    split: Split = "train",
    task: Task = None,
    count: Annotated[int, typer.Option(help="How many scenes.")] = 100,
    frames: Frames = None,
    side: Annotated[int, typer.Option(help="The shorter side in pixels.")] = 224,
    aspect: Aspect = 1.0,
    fps: Fps = 2.0,
    seed: SeedOption = 0,
    sprites: Sprites = None,
    form: FormName = "open",
    turns: Turns = 1,
    sound: Annotated[
        bool | None,
        typer.Option("--sound/--no-sound", help="Sound tracks.", show_default="for the task sound"),
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Which thing each pixel shows.")] = False,
    debug: options.Debug = False,
) -> None:
    """Write scenes as MP4 and PNG, with their questions as LLaVA-style JSONL.

    Run the same command again to go on where it was stopped.
    """
    with working("getting ready"):
        from sparsight.world.request import Request
        from sparsight.world.write import make as make_files

        request = Request(
            split, task, count, frames, side, aspect, fps, seed, cast("Form", form), turns, sprites
        )
    with _bar("frames", request.count * request.length) as on_frames:
        made = make_files(
            request,
            out,
            sound=task == "sound" if sound is None else sound,
            masks=masks,
            on_frames=on_frames,
        )
    print(_told("scenes", made, out))


@world.command()
def show(
    split: Split = "train",
    task: Task = None,
    count: Annotated[int, typer.Option(help="How many scenes.")] = 1,
    frames: Frames = None,
    aspect: Aspect = 1.0,
    fps: Fps = 2.0,
    seed: SeedOption = 0,
    sprites: Sprites = None,
    form: FormName = "open",
    turns: Turns = 1,
    out: Annotated[Path, typer.Option(help="The picture to write, a PNG.")] = Path("world.png"),
    debug: options.Debug = False,
) -> None:
    """Draw scenes with boxes, names and events; print their questions with the answers."""
    check_target(out)
    if not 1 <= count <= _MOST_SHOWN:
        raise UserError(f"count must be from 1 to {_MOST_SHOWN} on one sheet, not {count}")
    with working("drawing"):
        from sparsight.world.library import Library
        from sparsight.world.request import Request
        from sparsight.world.sheet import contact_sheet

        request = Request(
            split, task, count, frames, 448, aspect, fps, seed, cast("Form", form), turns, sprites
        )
        library = Library(request.sprites)
        asked = list(request.asked(library))
        content = io.BytesIO()
        contact_sheet(asked, library).save(content, "PNG")
        write_whole(out, content.getvalue())
    tables().print(_questions(asked))
    notes().print(f"wrote {out}", markup=False, soft_wrap=True)


@world.command()
def rooms(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, made if need be.")],
    split: Split = "train",
    task: Annotated[
        str | None,
        typer.Option(help="nearer, side, distance or things.", show_default="all of them"),
    ] = None,
    count: Annotated[int, typer.Option(help="How many rooms.")] = 100,
    views: Annotated[
        int | None, typer.Option(help="Cameras in a room.", show_default="2 to 8")
    ] = None,
    side: Annotated[int, typer.Option(help="The shorter side in pixels.")] = 224,
    aspect: Aspect = 1.0,
    seed: SeedOption = 0,
    form: FormName = "open",
    depth: Annotated[bool, typer.Option("--depth", help="How far each pixel is.")] = False,
    debug: options.Debug = False,
) -> None:
    """Write rooms seen by several cameras as PNG, with their questions as LLaVA-style JSONL.

    Run the same command again to go on where it was stopped.
    """
    with working("getting ready"):
        from sparsight.world.space.write import RoomRequest, make_rooms

        request = RoomRequest(split, task, count, views, side, aspect, seed, cast("Form", form))
    with _bar("rooms", count) as on_rooms:
        made = make_rooms(request, out, depth=depth, on_room=lambda: on_rooms(1))
    print(_told("rooms", made, out))


def _told(what: str, made: Made, out: Path) -> str:
    there = f", {made.found:,} of them there before" if made.found else ""
    return f"{made.media:,} {what} in {out}{there}; {made.records:,} records in conversations.jsonl"


def _questions(asked: list[Asked]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "question", "answer"):
        table.add_column(heading, overflow="fold")
    for item in asked:
        for question in item.questions:
            cells = (question.task, question.text, question.answer)
            table.add_row(*(Text(cell) for cell in cells))
    return table


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr; gives the function that moves it."""
    console = notes()
    if not console.is_terminal:
        yield lambda count: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda count: progress.advance(bar, count)
