"""The report of a comparison: one self-contained HTML page, nothing fetched, everything escaped.

It says first what the numbers say, then shows them: accuracy over cost, the table, tasks, seconds,
and questions with the tokens that each plan kept. The same rows give the same bytes.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from sparsight.measure.costs import operations, seconds
from sparsight.measure.shell import page
from sparsight.tune.bars import name_of, stage_bars, task_bars
from sparsight.tune.examples import Example, Shown
from sparsight.tune.ledger import table
from sparsight.tune.pareto import NARROW, WIDE, Point, mark_of, pareto_picture
from sparsight.tune.report_parts import SCRIPT, STYLE
from sparsight.tune.rows import Role, Row
from sparsight.tune.verdicts import cautions, conclusion, foremost, systems

_BARS = 14  # rows of a model that are drawn as bars

#: What a cost is called on the switch and on the axis, its value, and the value in words.
Cost = tuple[str, str, Callable[[Row], float], Callable[[float], str]]

_COSTS: tuple[Cost, ...] = (
    (
        "FLOPs",
        "FLOPs a question: tower, prefill, decode",
        lambda row: sum(row.flops.values()),
        operations,
    ),
    (
        "tokens",
        "visual tokens a question, mean over the layers",
        lambda row: row.visual_mean,
        lambda count: f"{count:,.0f} tokens",
    ),
    ("first token", "time to the first token", lambda row: row.first_token, seconds),
)


def write_report(
    rows: Sequence[Row],
    path: Path,
    *,
    examples: Sequence[Example] = (),
    title: str,
    about: Mapping[str, str],
) -> None:
    """Write the report of a comparison; the file appears whole or not at all.

    Args:
        rows: of one model or several, each with its row of the full model.
        examples: questions with the tokens that were kept.
        title: the heading.
        about: name -> words: versions, machine, seeds, data, how rows were matched.
    """
    text = report(rows, examples=examples, title=title, about=about)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, "utf-8")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def report(
    rows: Sequence[Row],
    *,
    examples: Sequence[Example] = (),
    title: str,
    about: Mapping[str, str],
) -> str:
    """The page of `write_report`."""
    models: dict[str, list[Row]] = {}
    for row in rows:
        models.setdefault(row.model, []).append(row)
    assert models, "no rows"
    for model, of_model in models.items():
        assert any(row.role == "full" for row in of_model), f"{model} has no row of the full model"
    several = len(models) > 1
    parts = [
        _header(models, title),
        *(_pareto(place, of, several) for place, of in enumerate(models.values())),
        _part("All numbers", table(rows), "A press on a heading sorts by it."),
        *(_tasks(of, several) for of in models.values()),
        *(_seconds(of, several) for of in models.values()),
        _examples(examples),
        _about(about),
    ]
    return page(title, STYLE, "".join(parts), SCRIPT)


# ---- the parts of the page ---------------------------------------------------------------------


def _header(models: Mapping[str, Sequence[Row]], title: str) -> str:
    told = []
    for model, rows in models.items():
        name = f"<b>{escape(model)}</b>: " if len(models) > 1 else ""
        notes = "".join(f"<li>{_unbroken(note)}</li>" for note in cautions(rows))
        told.append(
            f'<p class="conclusion">{name}{_unbroken(conclusion(rows))}</p>'
            f'<ul class="cautions quiet">{notes}</ul>'
        )
    names = escape(", ".join(models))
    return (
        f'<header><p class="quiet">Sparsight &middot; {names}</p>'
        f"<h1>{escape(title)}</h1>{''.join(told)}</header>"
    )


def _unbroken(sentence: str) -> str:
    """Escaped, with each number on one line with its percent sign."""
    return escape(sentence).replace(" %", "&nbsp;%")


def _part(title: str, body: str, remark: str = "") -> str:
    note = f'<p class="quiet">{escape(remark)}</p>' if remark else ""
    return f'<section class="part"><h2>{escape(title)}</h2>{note}{body}</section>'


def _of(title: str, rows: Sequence[Row], several: bool) -> str:
    return f"{title}: {rows[0].model}" if several else title


def _pareto(place: int, rows: Sequence[Row], several: bool) -> str:
    """Accuracy over each cost; which one is seen is switched without a script."""
    switch: list[str] = []
    charts: list[str] = []
    for at, (name, title, value, told) in enumerate(_COSTS):
        points = _points(rows, value)
        if not points:
            continue
        field, chosen = f"axis{place}-{at}", "" if switch else " checked"
        switch.append(
            f'<input type="radio" name="axis{place}" id="{field}"{chosen}>'
            f'<label for="{field}">{escape(name)}</label>'
        )
        both = "".join(pareto_picture(points, title, _round(told), size) for size in (WIDE, NARROW))
        charts.append(f'<div class="chart">{both}</div>')
    if not charts:
        return ""
    body = (
        f'<fieldset class="axes" aria-label="cost">{"".join(switch)}{"".join(charts)}</fieldset>'
        f"{_key()}"
    )
    remark = (
        "The front joins the plans that no other one beats in both; lines through the points are "
        "95 % intervals. What has no name here tells it when pointed at or pressed."
    )
    return _part(_of("Accuracy over cost", rows, several), body, remark)


def _points(rows: Sequence[Row], value: Callable[[Row], float]) -> list[Point]:
    """Rows that answered anything; those that answered nothing have no cost."""
    return [
        Point(value(row), row.accuracy, row.interval95, row.label, systems(row), row.role)
        for row in rows
        if row.failures < row.count
    ]


def _round(told: Callable[[float], str]) -> Callable[[float], str]:
    """Words of a value without a needless decimal: "200 ms", "2 TFLOP"."""
    return lambda value: told(value).replace(".0 ", " ")


def _key() -> str:
    marks: tuple[tuple[Role, str], ...] = (
        ("full", "the full model"),
        ("system", "a system"),
        ("baseline", "a baseline, dashed and grey"),
    )
    items = "".join(
        f'<span><svg width="16" height="16" aria-hidden="true"><g class="{role}">'
        f"{mark_of(role, 8, 8)}</g></svg>{words}</span>"
        for role, words in marks
    )
    return (
        f'<div class="key quiet">{items}<span><svg width="24" height="16" aria-hidden="true">'
        '<path class="front" d="M1 12H12V4H23"/></svg>the front; its points are filled</span></div>'
    )


def _tasks(rows: Sequence[Row], several: bool) -> str:
    remark = "Bars with 95 % intervals; the dotted line is the full model's. " + _chosen(rows)
    return _part(_of("By task", rows, several), task_bars(foremost(rows, _BARS)), remark)


def _seconds(rows: Sequence[Row], several: bool) -> str:
    remark = "Seconds a question, stage by stage. " + _chosen(rows)
    return _part(
        _of("Where the time goes", rows, several), stage_bars(foremost(rows, _BARS)), remark
    )


def _chosen(rows: Sequence[Row]) -> str:
    drawn = min(len(rows), _BARS)
    return "" if drawn == len(rows) else f"{drawn} of {len(rows)} plans drawn: those that matter."


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    remark = (
        "Chosen because plans differ on them, so not a fair sample. Bright: kept; dim: dropped; "
        "framed in yellow: merged of several."
    )
    return _part("Examples", "".join(map(_example, examples)), remark)


def _example(example: Example) -> str:
    replies = "".join(_reply(label, Shown(*told)) for label, told in example.replies.items())
    asked = f"{escape(example.model)} &middot; " if example.model else ""
    return (
        f'<article class="example"><h3>{escape(example.question)}</h3>'
        f'<p class="quiet">{asked}right answer: {escape(example.answer)}</p>'
        f"<figure>{_image(example.picture, 'what was asked about')}</figure>"
        f'<div class="replies">{replies}</div></article>'
    )


def _reply(label: str, told: Shown) -> str:
    mark, name = ("&#10003; right", "right") if told.right else ("&#10007; wrong", "wrong")
    return (
        f'<div><p class="quiet">{name_of(label)} &middot; <span class="{name}">{mark}</span></p>'
        f'<p class="told">{escape(told.text)}</p>{_image(told.kept, f"kept by {label}")}'
        f'<p class="quiet">{escape(told.counts)}</p></div>'
    )


def _image(content: bytes, words: str) -> str:
    """A PNG in the page; nothing where there is none."""
    if not content:
        return ""
    data = base64.b64encode(content).decode()
    return f'<img alt="{escape(words, quote=True)}" src="data:image/png;base64,{data}">'


def _about(about: Mapping[str, str]) -> str:
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in about.items()
    )
    return _part("About", f'<dl class="about">{items}</dl>')
