"""What is shown while the work goes on: a moving line on a terminal's stderr, streamed text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sparsight.cli.text import plain


def notes() -> Console:
    """Where everything but the answer goes: stderr, in colour on a terminal alone."""
    return Console(stderr=True, highlight=False)


def tables() -> Console:
    """Where tables go: stdout, as wide as the terminal; wide enough for their lines in a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


@contextmanager
def working(what: str, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show `what` is going on and for how long; gives a function that takes it away early.

    Nothing is shown where stderr is no terminal, nor with `quiet`.
    """
    console = notes()
    if quiet or not console.is_terminal:
        yield lambda: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(plain(what).replace("[", r"\["), total=None)
        yield progress.stop


def hush(quiet: bool = False) -> None:
    """Keep the libraries' own bars and warnings out of pipes. Call before they are imported."""
    if quiet or not sys.stderr.isatty():
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    logging.disable_progress_bar()


class Answer:
    """Writes an answer to stdout piece by piece, and ends its line whatever happens."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._first = first  # called before the first piece is written
        self._started = False
        self._ends_line = True

    def __call__(self, piece: str) -> None:
        if not self._started:
            self._first()
            self._started = True
            piece = piece.lstrip()
        if piece:
            self._ends_line = piece.endswith("\n")  # before writing, where a Ctrl-C may fall
        sys.stdout.write(plain(piece))
        sys.stdout.flush()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._ends_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
