"""`sparsight tune`: the best plan for a model, some questions and a goal, found by measurement."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsight.cli import options
from sparsight.cli.files import write_whole
from sparsight.cli.questions import names, questions
from sparsight.cli.terminal import hush, notes, tables, working
from sparsight.cli.text import plain
from sparsight.cli.tuning import Shown, finals_table
from sparsight.core.errors import UserError, unknown

if TYPE_CHECKING:
    from sparsight.tune.compare import Comparison
    from sparsight.tune.halves import Halves
    from sparsight.tune.outcome import Outcome
    from sparsight.tune.tuning import Request

_QUESTIONS = 256  # in all, where nothing is said
_TRIALS = 100  # where neither a number nor a time is given
_ENDLESS = 1_000_000  # where a time is
_EXAMPLES = 4


def tune(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the plan and records go.")],
    model: options.Model = None,
    tasks: options.Tasks = "",
    data: options.Data = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Questions a task, or of the file.", show_default="256 in all"),
    ] = None,
    keep_accuracy: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="The cheapest plan that keeps so much: 0.98, 98%."),
    ] = None,
    max_first_token: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time to the first token: 200ms, 1.5s.")
    ] = None,
    max_visual_tokens: Annotated[
        int | None, typer.Option(min=1, help="Visual tokens, averaged over the LLM's layers.")
    ] = None,
    max_kv: Annotated[
        str | None, typer.Option(metavar="BYTES", help="The key-value cache: 64MB, 1GiB.")
    ] = None,
    max_flops: Annotated[
        str | None,
        typer.Option(metavar="FLOPS", help="Operations a question: 1.5T; 25% of the full model's."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time for everything, over all runs: 20m, 1h30m."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Plans to try.", show_default="100, or what the time allows"),
    ] = None,
    systems: Annotated[
        str, typer.Option(metavar="NAMES", help="Search these alone.", show_default="all")
    ] = "",
    search: Annotated[
        str,
        typer.Option(help="plans; or gsearch: a schedule for that system, by its paper's search."),
    ] = "plans",
    frames: options.Frames = None,
    max_tokens: options.MaxTokens = 48,
    seed: options.Seed = None,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    debug: options.Debug = False,
) -> None:
    """Find the best plan: systems, knobs and frames, measured on the world or on your questions.

    Half of the questions are held out for the final figures. Run the same command again to go on
    where it was stopped. Exit code 1: nothing satisfies the goal; the files say how near it came.
    """
    if search not in ("plans", "gsearch"):
        raise unknown("search", search, ("plans", "gsearch"))
    if search == "gsearch" and systems:
        raise UserError("--search gsearch is about that system alone: leave out --systems")
    with working("getting ready"):
        hush()
        import sparsight.systems
        from sparsight.core.plan import Plan
        from sparsight.tune import units
        from sparsight.tune.goals import goal_of
        from sparsight.tune.schedules import check_goal
        from sparsight.tune.tuning import Request

        sparsight.systems.load()
        goal = goal_of(keep_accuracy, max_first_token, max_visual_tokens, max_kv, max_flops)
        if search == "gsearch":
            check_goal(goal)
        allowed = units.seconds(time, "--time") if time is not None else None
        each = -(-_QUESTIONS // max(1, len(names(tasks))))
        items = questions(tasks, data, count, each, frames, seed or 0)
        request = Request(
            goal=goal,
            trials=trials or (_TRIALS if allowed is None and search == "plans" else _ENDLESS),
            time=allowed,
            systems=names(systems) or None,
            most=_QUESTIONS if count is None else len(items),
            seed=seed or 0,
            max_tokens=max_tokens,
            data="world" if data is None else data.name,
            search="gsearch" if search == "gsearch" else "plans",
        )
    vlm = options.load_vlm(Plan(model or "mini"), device, dtype)
    from sparsight.tune.tuning import tune as run

    with Shown(goal) as shown:
        try:
            outcome, comparison, cut = run(vlm, items, request, out, shown)
        except KeyboardInterrupt:
            notes().print("the same command goes on from here", style="dim")
            raise
    with working("writing the report"):
        _write(out, outcome, comparison, cut, request, frames, shown.left_out)
    _tell(outcome, out)
    if not outcome.good:
        raise typer.Exit(1)


def _tell(outcome: Outcome, out: Path) -> None:
    from sparsight.tune.story import summary

    for line in summary(outcome):
        print(plain(line))
    tables().print(finals_table(outcome))
    files = "plan.yaml, front.json, report.md, report.html"
    notes().print(f"wrote {files} in {out}", markup=False, soft_wrap=True)


def _write(
    out: Path,
    outcome: Outcome,
    comparison: Comparison,
    cut: Halves,
    request: Request,
    frames: str | None,
    left_out: dict[str, str],
) -> None:
    import sparsight
    from sparsight.measure.machine import machine
    from sparsight.tune.examples import examples_of
    from sparsight.tune.outcome import saved_plan
    from sparsight.tune.report import write_report
    from sparsight.tune.story import report

    write_whole(out / "plan.yaml", saved_plan(outcome, frames).encode())
    here = machine()
    about = {"sparsight": sparsight.__version__, "machine": here, "seed": request.seed}
    write_whole(
        out / "front.json",
        (jsonlib.dumps({**about, **outcome.as_dict()}, indent=1) + "\n").encode(),
    )
    told = {
        "model": outcome.plain.plan.model,
        "goal": request.goal.words,
        "data": f"{request.data}: {', '.join(dict.fromkeys(item.task for item in cut.tune))}",
        "questions": f"{len(cut.tune):,} to tune on, {len(cut.held):,} held out",
        "seed": str(request.seed),
        "machine": f"{here['cpu']}, {here['cores']} cores"
        + "".join(f", {gpu['name']}" for gpu in here["gpus"]),
        "versions": ", ".join(f"{name} {which}" for name, which in here["versions"].items()),
    }
    write_whole(out / "report.md", report(outcome, told, left_out).encode())
    shown = [outcome.plain, outcome.chosen, *filter(None, [outcome.single])]
    vlms = {item.label: comparison.vlms[item.label] for item in shown}
    examples = examples_of(
        vlms, cut.held, _EXAMPLES, records=comparison.records, max_tokens=request.max_tokens
    )
    write_report(
        comparison.rows,
        out / "report.html",
        examples=examples,
        title=f"{outcome.plain.plan.model}: {request.goal.words}",
        about=told,
    )
