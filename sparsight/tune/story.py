"""The report of a search in plain words: what was tried, what came of it, why this plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sparsight.measure.costs import operations, seconds, size
from sparsight.measure.panels import percent
from sparsight.tune.figures import Figures
from sparsight.tune.goals import Goal
from sparsight.tune.outcome import Final, Outcome
from sparsight.tune.trials import Tried, figures_of, words_of
from sparsight.tune.verdicts import points

_ORIGINS = {
    "alone": "single systems at their usual settings, and fewer frames",
    "budget": "the best of them with other budgets",
    "together": "the best of different slots together",
    "nearby": "neighbours of the best plan so far",
    "single": "single systems, knobs by the sampler",
    "sampled": "proposed by the sampler",
    "g-search": "schedules of G-Search",
    "p-sigmoid": "sigmoids of P-Sigmoid",
}


def summary(outcome: Outcome) -> list[str]:
    """What came of a search, in a few lines."""
    goal, chosen = outcome.goal, outcome.chosen
    doubts = [blindness(figures_of(outcome.tried[0]))]
    return [*_found(outcome, goal, chosen), *filter(None, doubts)]


def blindness(found: Figures) -> str:
    """What to know where the plain model is hardly better than guessing; else ""."""
    if not found.blind:
        return ""
    return (
        f"the plain model is right on {percent(found.full_accuracy)} of {found.count:,} questions, "
        f"guessing on {percent(found.guess)}: they hardly tell one plan from another"
    )


def _found(outcome: Outcome, goal: Goal, chosen: Final) -> list[str]:
    reached = "; ".join(goal.reached(chosen.figures))
    held = f"{chosen.figures.count:,} held-out questions"
    if not outcome.satisfied:
        item = chosen.tried
        assert item is not None
        near = "; ".join(goal.reached(figures_of(item)))
        lines = [f"nothing satisfies the goal: {goal.words}", f"nearest: {chosen.label}: {near}"]
        return [*lines, f"on {held}: {reached}"]
    lines = [f"best plan: {chosen.label}", f"on {held}: {reached}"]
    if outcome.refuted:
        lines.append(
            "the held-out questions say that it does not satisfy the goal: it was lucky on the "
            "others; tune on more questions"
        )
    elif not outcome.confirmed:
        lines.append("that is below the goal, but within what chance does to so few questions")
    return [*lines, *_against(outcome)]


def _against(outcome: Outcome) -> list[str]:
    """The chosen plan beside the best single system and the baselines."""
    chosen, single = outcome.chosen, outcome.single
    lines = []
    if not chosen.plan.systems and chosen.plan.frames is None:
        return ["nothing that was tried is better for this goal than the plain model"]
    if single is not None and single.label != chosen.label:
        lines.append(f"best single system: {single.label}: {_told(single)}")
    elif single is not None and any(len(item.plan.systems) > 1 for item in outcome.tried):
        lines.append("no combination that was tried is better than this single system")
    for item in outcome.beside:
        lines.append(f"beside it: {item.label}: {_told(item)}")
    return lines


def _told(item: Final) -> str:
    return (
        f"{percent(item.figures.kept)} of the full accuracy at {percent(item.figures.cost)} of the "
        "FLOPs"
    )


def report(outcome: Outcome, about: Mapping[str, str], left_out: Mapping[str, str]) -> str:
    """The report as Markdown.

    Args:
        about: name -> words: model, data, questions, seed, versions, machine.
        left_out: system -> why it was not searched.
    """
    parts = [
        f"# {about.get('model', 'The model')}: {outcome.goal.words}",
        "\n".join(f"- {line}" for line in summary(outcome)),
        "## On held-out questions",
        "No plan was chosen by these questions. Intervals are 95 %; p is McNemar's exact test "
        "against the full model.",
        _finals(outcome),
        *_notes(outcome),
        "## Why this plan",
        _why(outcome),
        "## What was tried",
        _counts(outcome.tried),
        _trials(outcome.tried, outcome.goal),
    ]
    if left_out:
        parts += ["## Left out", "\n".join(f"- {why}" for why in left_out.values())]
    parts += ["## Settings", "\n".join(f"- {name}: {value}" for name, value in about.items())]
    return "\n\n".join(parts) + "\n"


def _finals(outcome: Outcome) -> str:
    names = {outcome.chosen.label: "chosen", outcome.plain.label: "the plain model"}
    if outcome.single is not None:
        names.setdefault(outcome.single.label, "best single system")
    names |= {item.label: "beside" for item in outcome.beside if item.label not in names}
    lines = []
    for item in outcome.finals:
        row, found = item.row, item.figures
        low, high = row.interval95
        less, more = row.diff_interval
        full = item is outcome.plain
        lines.append(
            [
                names.get(item.label, "front"),
                item.label,
                f"{percent(row.accuracy)} ({percent(low)} to {percent(high)})",
                "" if full else f"{points(row.diff)} ({points(less)} to {points(more)})",
                "" if full else f"{row.p_value:.3f}",
                percent(found.cost),
                f"{row.visual_mean:,.0f}",
                size(row.kv_bytes),
                seconds(found.first_token),
                str(found.failures or ""),
            ]
        )
    heads = (
        "", "plan", "accuracy", "points to full", "p", "FLOPs of full", "tokens", "KV",
        "first token", "failed",
    )  # fmt: skip
    return _table(heads, lines)


def _notes(outcome: Outcome) -> list[str]:
    return ["Not possible: " + "; ".join(outcome.impossible) + "."] if outcome.impossible else []


def _why(outcome: Outcome) -> str:
    goal, item = outcome.goal, outcome.chosen.tried
    assert item is not None
    found = figures_of(item)
    told = "; ".join(goal.reached(found))
    if not outcome.satisfied:
        return (
            f"No plan satisfied the goal on the {found.count:,} questions tuned on. Trial "
            f"{item.number} comes nearest: {told}. The plans above marked front are those that no "
            "other one beats in accuracy and cost at once: choose among them, or ask for less."
        )
    rivals = [
        other
        for other in outcome.tried
        if other.state == "done" and goal.holds(figures_of(other)) and other.number != item.number
    ]
    return (
        f"On the {found.count:,} questions tuned on, trial {item.number} ({item.origin}) {told}, "
        f"at {percent(found.cost)} of the FLOPs ({operations(found.flops)} a question). "
        f"Of {len(rivals) + 1} plans that satisfied the goal it was the best by its measure. "
        "An accuracy counts as kept when it is above what is wanted by two thirds of a standard "
        "error, because the best of many plans is partly lucky."
    )


def _counts(tried: Sequence[Tried]) -> str:
    states = Counter(item.state for item in tried)
    lines = [
        f"{len(tried)} plans: {states['done']} asked all questions, {states['stopped']} stopped "
        f"early, {states['refused']} do not run on this model."
    ]
    origins = Counter(item.origin for item in tried)
    lines += [f"- {words}: {origins[name]}" for name, words in _ORIGINS.items() if origins[name]]
    return "\n".join([lines[0], "", *lines[1:]])


def _trials(tried: Sequence[Tried], goal: Goal) -> str:
    asked = [item for item in tried if item.figures is not None]
    asked.sort(key=lambda item: (goal.order(figures_of(item)), item.number))
    lines = []
    for item in asked:
        found = figures_of(item)
        verdict = "satisfies the goal" if goal.holds(found) else ""
        lines.append(
            [
                str(item.number),
                words_of(item.plan),
                str(found.count),
                percent(found.accuracy),
                percent(found.kept),
                percent(found.cost),
                f"{found.tokens:,.0f}",
                item.note if item.state == "stopped" else verdict,
            ]
        )
    heads = ("trial", "plan", "questions", "accuracy", "of full", "FLOPs", "most tokens", "")
    return _table(heads, lines)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows
    )
