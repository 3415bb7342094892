"""`sparsight demo`: the embedded model on the bundled clip, with all tokens and with a share.

Also `python -m sparsight.cli.demo`.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from sparsight.cli import options
from sparsight.cli.see import drawings, write_page, write_picture
from sparsight.cli.terminal import tables, working

if TYPE_CHECKING:
    from sparsight.core.reply import Reply

#: The folder of clip.mp4 and question.json: {"question": ...}.
BUNDLE = Path(str(importlib.resources.files("sparsight").joinpath("world", "mini")))

RUNS = 3  # after one that warms up; the one of middle length is shown

#: What is shown beside all tokens.
SYSTEMS = ("fastervlm:keep=0.25", "uniform:keep=0.25")


def demo(
    out: Annotated[Path, typer.Option(help="The folder that the picture goes to.")] = Path("out"),
    debug: options.Debug = False,
) -> None:
    """Ask the embedded model about the bundled clip, with and without all tokens."""
    question = json.loads((BUNDLE / "question.json").read_text())
    vlm = options.load_vlm(options.plan_of("mini", None, None, None, None), None, "auto")
    with working("asking"):
        import sparsight
        from sparsight.core.plan import Plan, parse_system

        clip = sparsight.load_media(BUNDLE / "clip.mp4")
        views = {"all tokens": vlm}
        for system in SYSTEMS:
            views[system] = vlm.planned(Plan(systems=(parse_system(system),)))
        runs = [  # one after the other, so that none has the quiet moments to itself
            {name: view.ask(clip, question["question"]) for name, view in views.items()}
            for _ in range(1 + RUNS)
        ]
        replies = {name: _middle([run[name] for run in runs[1:]]) for name in views}
    tables().print(_comparison(question, replies))
    out.mkdir(parents=True, exist_ok=True)
    shown = replies[SYSTEMS[0]]
    drawn = drawings([clip], shown)
    picture, page = out / "demo.png", out / "demo.html"
    write_picture(picture, drawn, question["question"])
    write_page(page, drawn, shown, question["question"])
    print(f"\nThe tokens that {SYSTEMS[0]} kept: {picture} and {page}")


def _middle(replies: list[Reply]) -> Reply:
    """The reply whose time is the median."""
    return sorted(replies, key=lambda reply: reply.timing.total)[len(replies) // 2]


def _comparison(question: dict[str, str], replies: dict[str, Reply]) -> Table:
    from sparsight.measure.costs import operations, seconds, size

    table = Table(title=question["question"], title_justify="left", title_style="bold")
    table.add_column("")
    for name in replies:
        table.add_column(name, justify="right")
    every = list(replies.values())
    table.add_row("answer", *(Text(reply.text) for reply in every), end_section=True)
    table.add_row("visual tokens seen", *(f"{reply.usage.visual_seen:,}" for reply in every))
    table.add_row(
        "visual tokens kept", *(f"{reply.usage.visual_kept:,}" for reply in every), end_section=True
    )
    for stage in every[0].timing.stages:
        table.add_row(stage, *(seconds(reply.timing.stages.get(stage, 0)) for reply in every))
    table.add_row("decode steps", *(seconds(sum(reply.timing.steps)) for reply in every))
    table.add_row("total", *(seconds(reply.timing.total) for reply in every), end_section=True)
    table.add_row("FLOPs, tower", *(operations(reply.flops.tower) for reply in every))
    table.add_row("FLOPs, prefill", *(operations(reply.flops.prefill) for reply in every))
    table.add_row("key-value cache", *(size(reply.kv_bytes) for reply in every))
    return table


def _alone() -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(demo)
    return app


if __name__ == "__main__":
    from sparsight.cli.running import run

    sys.exit(run(_alone, sys.argv[1:]))
