"""`sparsight compare`: systems, budgets and plans on models, in one table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sparsight.cli import options
from sparsight.cli.comparing import Shown, results_table, seconds_table
from sparsight.cli.files import write_whole
from sparsight.cli.questions import questions
from sparsight.cli.terminal import hush, notes, tables, working
from sparsight.core.errors import UserError, unknown

if TYPE_CHECKING:
    from sparsight.bench.item import Item
    from sparsight.bench.store import Store
    from sparsight.core.plan import Plan
    from sparsight.tune.compare import Comparison, Entrant, Impossible
    from sparsight.tune.examples import Example
    from sparsight.tune.rows import Row

_QUESTIONS = 200  # a task, where nothing is said
_EXAMPLES = 6  # questions in the report, under so many plans beside the full model:
_PLANS = 4


@dataclass(frozen=True)
class _Asked:
    """What every model is asked, and how."""

    field: Sequence[Entrant]
    items: Sequence[Item]
    data: str
    equal: Literal["tokens", "flops"]
    baselines: bool
    batch: int
    max_tokens: int
    seed: int


def compare(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results and records go.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A hub id, a folder or mini; may be given several times.",
            show_default="mini, or what the plans name",
        ),
    ] = None,
    systems: Annotated[
        str, typer.Option(metavar="NAME[:knob=value],...", help="Systems to compare.")
    ] = "",
    plan: Annotated[
        list[Path] | None,
        typer.Option("--plan", metavar="FILE", help="A plan; may be given several times."),
    ] = None,
    keep: Annotated[
        str, typer.Option(metavar="BUDGETS", help="Shares or counts of tokens for each system.")
    ] = "0.5,0.25",
    tasks: options.Tasks = "",
    data: options.Data = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Questions a task, or of the file.", show_default="200; all"),
    ] = None,
    equal: Annotated[
        str, typer.Option(help="What baselines spend like the system: tokens or flops.")
    ] = "tokens",
    baselines: Annotated[
        bool,
        typer.Option(help="Run random, uniform, pool and downsample beside each system."),
    ] = True,
    frames: options.Frames = None,
    max_tokens: options.MaxTokens = 48,
    batch: Annotated[int, typer.Option(min=1, help="Questions answered together.")] = 1,
    seed: options.Seed = None,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    debug: options.Debug = False,
) -> None:
    """Compare systems at equal budgets, on the world or on your own questions.

    Run the same command again to go on where it was stopped.
    """
    if equal not in ("tokens", "flops"):
        raise unknown("budget", equal, ("tokens", "flops"))
    if not systems and not plan:
        raise UserError("say what to compare: --systems fastervlm,fastv or --plan plan.yaml")
    with working("getting ready"):
        hush()
        import sparsight.systems
        from sparsight.bench.store import Store

        sparsight.systems.load()
        seed = seed or 0
        plans = _plans(plan or ())
        field = _field(systems, keep, plans, seed)
        models = _models(model, plans)
        items = questions(tasks, data, count, _QUESTIONS, frames, seed)
        asked = _Asked(
            field=field,
            items=items,
            data="world" if data is None else data.name,
            equal="flops" if equal == "flops" else "tokens",
            baselines=baselines,
            batch=batch,
            max_tokens=max_tokens,
            seed=seed,
        )
    rows: list[Row] = []
    examples: list[Example] = []
    left_out: list[Impossible] = []
    with Store(out / "records") as store:
        try:
            for each in models:
                found, drawn = _compared(each, asked, store, device, dtype)
                rows += found.rows
                left_out += found.impossible
                examples += [replace(e, model=each) if len(models) > 1 else e for e in drawn]
        except KeyboardInterrupt:
            notes().print("the same command goes on from here", style="dim")
            raise
        _write(out, rows, left_out, examples, asked, models, dtype)
    for table in (results_table(rows), seconds_table(rows)):
        tables().print(table)
    for item in left_out:
        print(f"not possible: {item}")
    where = ", ".join(f"compare.{kind}" for kind in ("html", "json", "csv"))
    notes().print(f"wrote {where} in {out}", markup=False, soft_wrap=True)


# ---- what is asked -----------------------------------------------------------------------------


def _plans(files: Sequence[Path]) -> list[tuple[str, Plan]]:
    """Plans under the names of their files; under their paths where names are the same."""
    from sparsight.core.plan import Plan

    stems = [path.stem for path in files]
    return [
        (stem if stems.count(stem) == 1 else str(path), Plan.load(path))
        for stem, path in zip(stems, files, strict=True)
    ]


def _field(systems: str, keep: str, plans: Sequence[tuple[str, Plan]], seed: int) -> list[Entrant]:
    from sparsight.tune.compare import entrants

    return entrants(split_systems(systems), budgets(keep), plans, seed=seed)


def split_systems(text: str) -> list[str]:
    """ "tome,fastv:layer=3,keep=0.5" -> ["tome", "fastv:layer=3,keep=0.5"]: what holds a knob, or
    is a number of a list, belongs to the system before it."""
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        head = part.partition(":")[0]
        if found and ("=" in head or re.fullmatch(r"[-+.\deEx]+", part)):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return list(dict.fromkeys(found))


def budgets(text: str) -> list[float | int]:
    """ "0.5,144" -> [0.5, 144]: a share has a point, a count has none."""
    found: list[float | int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            value = int(part) if part.isdecimal() else float(part)
        except ValueError:
            value = 0
        if not (value >= 1 if isinstance(value, int) else 0 < value <= 1):
            raise UserError(
                f"--keep {part} is not allowed: give shares up to 1.0, or counts of 1 or more"
            )
        found.append(value)
    if not found:
        raise UserError("--keep names no budget: write --keep 0.5,0.25")
    return found


def _models(given: Sequence[str] | None, plans: Sequence[tuple[str, Plan]]) -> list[str]:
    """The models to compare on, all of them there."""
    from sparsight.vlm.load import find_model

    names = list(dict.fromkeys(given or [plan.model for _, plan in plans] or ["mini"]))
    for name in names:
        find_model(name)
    return names


# ---- one model ---------------------------------------------------------------------------------


def _compared(
    model: str, asked: _Asked, store: Store, device: str | None, dtype: str
) -> tuple[Comparison, list[Example]]:
    """Compare on one model, which is gone from memory afterwards."""
    from sparsight.core.plan import Plan
    from sparsight.tune.compare import compare as run

    vlm = options.load_vlm(Plan(model), device, dtype)
    with Shown() as shown:
        found = run(
            vlm, asked.field, asked.items, store=store, equal=asked.equal,
            baselines=asked.baselines, batch=asked.batch, max_tokens=asked.max_tokens,
            seed=asked.seed, data=asked.data, watch=shown,
        )  # fmt: skip
    with working("drawing examples"):
        examples = _examples(found, asked)
    found.vlms.clear()
    return found, examples


def _examples(found: Comparison, asked: _Asked) -> list[Example]:
    """Questions that some of the plans answer differently, with the tokens that were kept."""
    from sparsight.tune.examples import examples_of

    rows = [row for row in found.rows if row.role != "full" and row.failures < row.count]
    rows = [row for row in rows if row.role == "system"] or rows
    some = [rows[place * len(rows) // _PLANS] for place in range(_PLANS)] if rows else []
    labels = dict.fromkeys([found.rows[0].label, *(row.label for row in some)])
    vlms = {label: found.vlms[label] for label in labels}
    return examples_of(
        vlms, asked.items, _EXAMPLES, records=found.records, max_tokens=asked.max_tokens
    )


# ---- what comes of it --------------------------------------------------------------------------


def _write(
    out: Path,
    rows: Sequence[Row],
    left_out: Sequence[Impossible],
    examples: Sequence[Example],
    asked: _Asked,
    models: Sequence[str],
    dtype: str,
) -> None:
    import sparsight
    from sparsight.measure.machine import machine
    from sparsight.tune.report import write_report
    from sparsight.tune.results import as_csv, as_json

    settings: dict[str, Any] = {
        "models": list(models),
        "data": asked.data,
        "questions": len(asked.items),
        "tasks": list(dict.fromkeys(item.task for item in asked.items)),
        "equal": asked.equal if asked.baselines else "",
        "seed": asked.seed,
        "batch": asked.batch,
        "max_tokens": asked.max_tokens,
        "dtype": dtype,
    }
    here = machine()
    about = {"sparsight": sparsight.__version__, "machine": here, "settings": settings}
    write_whole(out / "compare.json", as_json(rows, left_out, about).encode())
    write_whole(out / "compare.csv", as_csv(rows).encode())
    told = {
        "data": f"{asked.data}: {', '.join(settings['tasks'])}",
        "questions": f"{len(asked.items):,}",
        "baselines": f"at equal {asked.equal}" if asked.baselines else "left out",
        "seed": str(asked.seed),
        "batch": str(asked.batch),
        "dtype": dtype,
        "machine": f"{here['cpu']}, {here['cores']} cores"
        + "".join(f", {gpu['name']}" for gpu in here["gpus"]),
        "versions": ", ".join(f"{name} {which}" for name, which in here["versions"].items()),
        "not possible": "; ".join(map(str, left_out)) or "nothing was left out",
    }
    title = f"{', '.join(models)}: {len(rows)} plans compared"
    write_report(rows, out / "compare.html", examples=examples, title=title, about=told)
