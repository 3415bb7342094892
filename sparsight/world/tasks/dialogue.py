"""Several turns about one scene: what is asked later refers back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from sparsight.world.tasks.family import Fact, Family, choose, pick
from sparsight.world.tasks.question import Question
from sparsight.world.tasks.sight import Sight

#: What is asked next about the same thing, by family and group.
_AND_IT: dict[tuple[str, str], tuple[str, ...]] = {
    ("color", "color"): ("And its color?", "And what color is it?"),
    ("shape", "shape"): ("And its shape?", "And what shape is it?"),
    ("where", "side"): ("And where is it?", "And on which side is it?"),
    ("box", "box"): ("And its box?", "And in which box is it?"),
    ("move", "move"): ("And which way does it move?", "And in which direction does it move?"),
    ("repeat", "repeat"): ("And how many times does it {act}?",),
    ("when", "when"): ("And when does it {act}?",),
}
#: What is asked next of the same kind.
_AND_THAT: dict[tuple[str, str], tuple[str, ...]] = {
    ("color", "color"): ("What about the {thing}?", "And the {thing}?"),
    ("where", "side"): ("What about the {thing}?", "And the {thing}?"),
    ("box", "box"): ("What about the {thing}?", "And the {thing}?"),
    ("move", "move"): ("What about the {thing}?", "And the {thing}?"),
    ("exists", "both"): ("What about {thing}?", "And {thing}?"),
    ("exists", "noun"): ("What about {thing}?", "And {thing}?"),
    ("exists", "color"): ("What about {thing}?", "And {thing}?"),
    ("count", "colored"): ("And how many {what}{span}?",),
    ("count", "shapes"): ("And how many {what}{span}?",),
}
_FOLLOW = 0.85  # share of the later turns that refer back where they can

Found = tuple[Family, Fact]


def converse(
    families: Mapping[str, Family], sight: Sight, rng: np.random.Generator, turns: int
) -> list[Question]:
    """At most so many questions, later ones mostly about what was asked before. Nothing is asked
    that earlier turns have told."""
    pool = [(family, fact) for family in families.values() for fact in family.facts(sight, rng)]
    asked: list[Question] = []
    last: Found | None = None
    said = ""
    while pool and len(asked) < turns:
        wordings: tuple[str, ...] = ()
        follow = list(_followers(pool, last)) if last else []
        if follow and rng.random() < _FOLLOW:
            (family, fact), wordings = pick(rng, follow)
        else:
            family = pick(rng, list({f.task: f for f, _ in pool}.values()))
            fact = choose([other for f, other in pool if f is family], rng)
        question = family.question(fact, sight, rng, None)
        assert question is not None  # open questions need no wrong options
        if wordings:
            question = replace(question, text=pick(rng, wordings).format(**fact.fill))
        asked.append(question)
        said += f" {question.text} {question.answer}"
        pool = [
            item
            for item in pool
            if not _same(item, (family, fact)) and not _told(item, said, sight)
        ]
        last = (family, fact)
    return asked


def _followers(pool: list[Found], last: Found) -> Iterator[tuple[Found, tuple[str, ...]]]:
    """What may refer back to the last turn, with how it does."""
    family, fact = last
    about_it = (family.task, fact.group) in _AND_IT
    for item in pool:
        other, further = item
        key = (other.task, further.group)
        if about_it and key in _AND_IT and further.about == fact.about:
            yield item, _AND_IT[key]
        elif key in _AND_THAT and key == (family.task, fact.group) and further.fill != fact.fill:
            yield item, _AND_THAT[key]


def _same(a: Found, b: Found) -> bool:
    """Whether the one asks what the other has asked."""
    return a[0] is b[0] and a[1].group == b[1].group and a[1].fill == b[1].fill


def _told(item: Found, said: str, sight: Sight) -> bool:
    """Whether what has been said gives the answer away."""
    family, fact = item
    if family.task in ("color", "shape", "exists"):
        looks = [look for thing in fact.about for look in sight.looks[thing]]
        told = any(look.phrase in said for look in looks)
        return told or (family.task == "exists" and any(look.noun in said for look in looks))
    return family.task in ("box", "region") and fact.answer in said
