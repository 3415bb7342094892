"""`sparsight ask`: a question about pictures and films, answered as it comes."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsight.cli import options
from sparsight.cli.tables import profile_table
from sparsight.cli.terminal import Answer, notes, working
from sparsight.core.errors import UserError

if TYPE_CHECKING:
    from sparsight.core.plan import Plan
    from sparsight.core.reply import Reply


def ask(
    words: Annotated[
        list[str],
        typer.Argument(metavar="MEDIA... QUESTION", help="Files, folders or URLs; the question."),
    ],
    model: options.Model = None,
    system: options.System = None,
    plan: options.PlanFile = None,
    frames: options.Frames = None,
    max_tokens: options.MaxTokens = 128,
    seed: options.Seed = None,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    json: options.Json = False,
    profile: Annotated[bool, typer.Option("--profile", help="Show what it cost.")] = False,
    debug: options.Debug = False,
) -> None:
    """Ask about pictures and films."""
    *media, question = words
    if not media:
        raise UserError('name a picture or film, then the question: ask film.mp4 "What happens?"')
    if not question.strip():
        raise UserError("the question is empty: write it after the media")
    options.check_media(media)
    chosen = options.plan_of(model, system, plan, frames, seed)
    vlm = options.load_vlm(chosen, device, dtype, quiet=json)
    with working("reading " + ", ".join(Path(item).name for item in media), json) as done:
        if json:
            reply = vlm.ask(media, question, max_tokens=max_tokens)
        else:
            with Answer(first=done) as answer:
                reply = vlm.ask(media, question, max_tokens=max_tokens, on_text=answer)
    if json:
        asked = {"question": question, "media": media}
        print(jsonlib.dumps({**asked, "plan": plan_dict(chosen), **reply.as_dict()}))
        return
    _tell_the_end(reply, max_tokens)
    if profile:
        notes().print(profile_table(reply))


def plan_dict(plan: Plan) -> dict[str, Any]:
    """A plan as plain values, every knob written out."""
    import yaml

    return yaml.safe_load(plan.to_yaml())


def _tell_the_end(reply: Reply, max_tokens: int) -> None:
    console = notes()
    if reply.finish == "length" and console.is_terminal:
        console.print(f"cut after {max_tokens} tokens; --max-tokens gives more", style="dim")
