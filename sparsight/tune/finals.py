"""The last part of a search: its best plans, and what they must beat, on items it never saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.core.plan import Plan
from sparsight.tune.compare import Comparison, Entrant, Watch, compare
from sparsight.tune.figures import best_guesses, figures
from sparsight.tune.goals import Goal
from sparsight.tune.outcome import Final, Outcome
from sparsight.tune.rows import FULL
from sparsight.tune.trials import Tried, best, figures_of, front, is_single, words_of

if TYPE_CHECKING:
    from sparsight.bench.store import Store
    from sparsight.vlm.pipeline import VLM

#: Plans of the front that are asked the held-out items.
FRONT = 6
#: About how many plans are, in all.
PLANS = FRONT + 7


def finals(
    vlm: VLM,
    tried: Sequence[Tried],
    goal: Goal,
    items: Sequence[Item],
    *,
    store: Store,
    max_tokens: int,
    data: str,
    watch: Watch,
) -> tuple[Outcome, Comparison]:
    """Ask the held-out `items` the best plan, the best single system, the front, the plain model
    and the baselines at the best plan's FLOPs."""
    base = tried[0].plan
    chosen = best(tried, goal)
    assert chosen is not None, "the plain model is always tried"
    single = best([item for item in tried if is_single(item.plan, base)], goal)
    some = some_of(front(tried, goal), chosen)
    labels = _labels([*some, chosen, *filter(None, [single])])

    def asked(field: Sequence[Entrant], baselines: bool) -> Comparison:
        return compare(
            vlm, field, items, store=store, equal="flops", baselines=baselines, seed=base.seed,
            max_tokens=max_tokens, data=data, watch=watch,
        )  # fmt: skip

    def entrants(found: Sequence[Tried]) -> list[Entrant]:
        return [Entrant(labels[item.number], item.plan) for item in found if item.number]

    done = asked(entrants([chosen]), baselines=True)
    alone = [] if chosen.plan.frames == base.frames else [_frames_alone(chosen.plan, base)]
    others = [item for item in [*filter(None, [single]), *some] if item.number != chosen.number]
    more = asked([*alone, *entrants(others)], baselines=False)
    done.records |= more.records
    done.vlms |= more.vlms
    done.rows += [row for row in more.rows if row.label not in {old.label for old in done.rows}]

    guesses, full = best_guesses(items), done.records[FULL]
    plans = {label: planned.plan for label, planned in done.vlms.items()}
    of_label = {
        label: _final(label, plans[label], done, full, guesses, item)
        for label, item in [(labels[t.number], t) for t in [*others, *some, chosen, tried[0]]]
        if label in done.records
    }
    beside = [
        _final(label, plans[label], done, full, guesses, None)
        for label in done.records
        if label not in of_label
    ]
    outcome = Outcome(
        goal=goal,
        tried=tried,
        satisfied=goal.holds(figures_of(chosen)),
        plain=of_label[FULL],
        chosen=of_label[labels[chosen.number]],
        single=None if single is None else of_label.get(labels[single.number]),
        front=[of_label[labels[item.number]] for item in some],
        beside=beside,
        impossible=[f"{item.label}: {item.reason}" for item in done.impossible],
    )
    return outcome, done


def some_of(found: Sequence[Tried], chosen: Tried) -> list[Tried]:
    """At most so many plans of a front as are asked again, spread over it, the chosen one among
    them if it is on it."""
    if len(found) <= FRONT:
        return list(found)
    places = {round(place * (len(found) - 1) / (FRONT - 1)) for place in range(FRONT)}
    numbers = [item.number for item in found]
    if chosen.number in numbers and numbers.index(chosen.number) not in places:
        at = numbers.index(chosen.number)
        places.discard(min(places - {0, len(found) - 1}, key=lambda place: abs(place - at)))
        places.add(at)
    return [found[place] for place in sorted(places)]


def _labels(found: Sequence[Tried]) -> dict[int, str]:
    """Trial number -> a name of its own."""
    labels = {0: FULL}
    for item in found:
        words = words_of(item.plan)
        taken = [number for number, label in labels.items() if label == words]
        if item.number not in labels:
            labels[item.number] = f"{words} (trial {item.number})" if taken else words
    return labels


def _frames_alone(plan: Plan, base: Plan) -> Entrant:
    """The plain model at a plan's frames: what fewer frames alone would do."""
    alone = dataclasses.replace(base, frames=plan.frames)
    return Entrant(words_of(alone), alone)


def _final(
    label: str,
    plan: Plan,
    done: Comparison,
    full: Sequence[Record],
    guesses: Sequence[bool],
    item: Tried | None,
) -> Final:
    row = next(row for row in done.rows if row.label == label)
    return Final(label, item, plan, row, figures(done.records[label], full, guesses))
