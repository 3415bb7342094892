"""`sparsight see`: which tokens were kept, as a picture and as a page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli import options
from sparsight.cli.files import check_target, write_whole
from sparsight.cli.terminal import notes, working
from sparsight.cli.text import plain
from sparsight.core.errors import UserError

if TYPE_CHECKING:
    from sparsight.core.clip import Clip
    from sparsight.core.plan import Plan
    from sparsight.core.reply import Reply
    from sparsight.measure.panels import Drawing

_QUESTION = "What is shown?"  # some systems look at the question; without one, at this


def see(
    words: Annotated[
        list[str],
        typer.Argument(metavar="MEDIA... [QUESTION]", help="Files, folders or URLs; a question."),
    ],
    model: options.Model = None,
    system: options.System = None,
    plan: options.PlanFile = None,
    frames: options.Frames = None,
    out: Annotated[Path, typer.Option(help="The picture to write, a PNG.")] = Path("see.png"),
    html: Annotated[Path, typer.Option(help="The page to write.")] = Path("see.html"),
    max_tokens: options.MaxTokens = 128,
    seed: options.Seed = None,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    debug: options.Debug = False,
) -> None:
    """Draw the visual tokens that were kept, merged and dropped."""
    media, question = split(words)
    options.check_media(media)
    for path in (out, html):
        check_target(path)
    chosen = options.plan_of(model, system, plan, frames, seed)
    check_drawable(chosen)
    vlm = options.load_vlm(chosen, device, dtype)
    with working("looking at " + ", ".join(Path(item).name for item in media)):
        import sparsight

        clips = [sparsight.load_media(source) for source in media]
        asked = question or _QUESTION
        reply = vlm.ask(clips, asked, max_tokens=max_tokens if question else 1)
        drawn = drawings(clips, reply)
    with working("drawing"):
        write_picture(out, drawn, question)
        write_page(html, drawn, reply, question)
    if question:
        print(plain(reply.text))
    for line in counts(drawn):
        print(plain(line))
    notes().print(f"wrote {out} and {html}", markup=False, soft_wrap=True)


def check_drawable(plan: Plan) -> None:
    """Refuse a system that answers by several calls, each with visual tokens of its own."""
    from sparsight.core.slots import slots_of

    for system in plan.systems:
        if "pipeline" in slots_of(system):
            raise UserError(
                f"{system.system_name} answers by several calls, so there is no one picture of "
                "its tokens: leave it out, or use sparsight ask"
            )


def split(words: list[str]) -> tuple[list[str], str]:
    """Media and question: the last word is the question if it does not name a medium."""
    *media, last = words
    if not media or options.is_url(last) or Path(last).exists() or _is_file_name(last):
        return words, ""
    return media, last


def _is_file_name(text: str) -> bool:
    """Whether a word that names no file was meant to: "film.mp4", but not "Is it red?"."""
    suffix = Path(text).suffix
    return len(text.split()) == 1 and 2 <= len(suffix) <= 6 and suffix[1:].isalnum()


def drawings(clips: list[Clip], reply: Reply) -> list[Drawing]:
    """Each token map with the frames it was made from."""
    assert len(clips) == len(reply.maps), (len(clips), len(reply.maps))
    return [
        (tokens, clip.frames(tokens.frames or (0,)))
        for clip, tokens in zip(clips, reply.maps, strict=True)
    ]


def write_picture(path: Path, drawn: list[Drawing], title: str) -> None:
    from sparsight.measure.pictures import picture_of_tokens

    content = io.BytesIO()
    picture_of_tokens(drawn, title).save(content, "PNG")
    write_whole(path, content.getvalue())


def write_page(path: Path, drawn: list[Drawing], reply: Reply, question: str) -> None:
    from sparsight.measure.page import page_of_tokens

    write_whole(path, page_of_tokens(drawn, reply, question).encode())


def counts(drawn: list[Drawing]) -> list[str]:
    """A line a medium: its name and its counts."""
    from sparsight.measure.panels import medium_of

    found = [medium_of(item) for item in drawn]
    return [f"{medium.origin}: {medium.counts}" for medium in found]
