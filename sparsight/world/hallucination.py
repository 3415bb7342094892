"""What a model claims to see that is not there: POPE of yes-or-no questions, CHAIR of captions.

Nothing is asked here, replies are scored. POPE (arXiv:2305.10355) goes with the task "exists",
whose exams hold as many questions about what is there as about what is not; CHAIR
(arXiv:1809.02156) with captions of any kind, as the task "caption" asks for them.

```python
answered = [(outcome.reply, outcome.question.answer) for outcome in examine(vlm, exam("exists"))]
pope(answered).f1
chair(objects_told(reply, scene) for reply, scene in captioned).chair_i
```
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sparsight.world.scene import DIGITS, LETTERS, SHAPES, Scene
from sparsight.world.tasks.sight import Sight


@dataclass(frozen=True)
class Pope:
    """Counts of yes-or-no answers by what was said and whether that is so.

    `unclear` of them hold neither word; they are counted as the rule of `says_yes` reads them.
    """

    true_yes: int
    false_yes: int
    true_no: int
    false_no: int
    unclear: int = 0

    @property
    def count(self) -> int:
        return self.true_yes + self.false_yes + self.true_no + self.false_no

    @property
    def accuracy(self) -> float:
        return _share(self.true_yes + self.true_no, self.count)

    @property
    def precision(self) -> float:
        """Of what it says is there, how much is."""
        return _share(self.true_yes, self.true_yes + self.false_yes)

    @property
    def recall(self) -> float:
        """Of what is there, how much it says is."""
        return _share(self.true_yes, self.true_yes + self.false_no)

    @property
    def f1(self) -> float:
        return _share(2 * self.true_yes, 2 * self.true_yes + self.false_yes + self.false_no)

    @property
    def yes_share(self) -> float:
        """How often it says yes at all; half of the questions of an exam deserve it."""
        return _share(self.true_yes + self.false_yes, self.count)


def says_yes(reply: str) -> bool:
    """How POPE reads a reply: its first sentence says no if one of its words is "no", "No" or
    "not", and yes otherwise, whatever it says."""
    words = reply.split(".")[0].replace(",", "").split(" ")
    return not {"no", "No", "not"} & {*words}


def pope(answered: Iterable[tuple[str, str]]) -> Pope:
    """Score replies to yes-or-no questions, each with the right answer "yes" or "no".

    A share of nothing is 0: the precision of a model that never says yes.
    """
    pairs = list(answered)
    rows = [(says_yes(reply), answer == "yes") for reply, answer in pairs]
    clear = [re.search(r"\b(yes|no|not)\b", reply, re.IGNORECASE) for reply, _ in pairs]
    return Pope(
        true_yes=rows.count((True, True)),
        false_yes=rows.count((True, False)),
        true_no=rows.count((False, False)),
        false_no=rows.count((False, True)),
        unclear=clear.count(None),
    )


@dataclass(frozen=True)
class Chair:
    """Counts of objects that captions mention.

    A mention counts as often as it is made. `there` are the objects of all scenes, `found` those
    of them that their caption mentions.
    """

    captions: int
    captions_with: int
    mentions: int
    hallucinated: int
    there: int
    found: int

    @property
    def chair_i(self) -> float:
        """The share of mentions whose object is not there."""
        return _share(self.hallucinated, self.mentions)

    @property
    def chair_s(self) -> float:
        """The share of captions with such a mention."""
        return _share(self.captions_with, self.captions)

    @property
    def recall(self) -> float:
        """The share of what is there that is mentioned: silence hallucinates nothing."""
        return _share(self.found, self.there)


def chair(told: Iterable[tuple[Sequence[str], Collection[str]]]) -> Chair:
    """Score captions, each as the objects it mentions, in any order, and those that are there.

    A share of nothing is 0.
    """
    rows = [(list(mentioned), {*there}) for mentioned, there in told]
    wrong = [sum(name not in there for name in mentioned) for mentioned, there in rows]
    return Chair(
        captions=len(rows),
        captions_with=sum(count > 0 for count in wrong),
        mentions=sum(len(mentioned) for mentioned, _ in rows),
        hallucinated=sum(wrong),
        there=sum(len(there) for _, there in rows),
        found=sum(len(there & {*mentioned}) for mentioned, there in rows),
    )


def objects_told(
    caption: str, scene: Scene, photographs: Sequence[str] = ()
) -> tuple[list[str], set[str]]:
    """What a caption of a scene mentions, and what of the scene comes into view: nouns both, such
    as "ring", "letter K" and "horse"; colors aside.

    "The letter" is any letter of the scene. `photographs` are further nouns to look out for: those
    of the library the scenes were made with, whose photographs not every scene holds.
    """
    sight = Sight(scene)
    there = {
        look.noun
        for looks, seen in zip(sight.looks, sight.ever, strict=True)
        if seen
        for look in looks
    }
    names = {name.lower(): name for name in {*_NOUNS, *photographs, *there}}
    longest = sorted(names, key=len, reverse=True)
    pattern = rf"\b({'|'.join(map(re.escape, longest))})(?:e?s)?\b"
    found = [names[match.lower()] for match in re.findall(pattern, caption, re.IGNORECASE)]
    return [_meant(name, there) for name in found], there


_NOUNS = (
    *SHAPES,
    *(f"letter {name}" for name in LETTERS),
    *(f"digit {name}" for name in DIGITS),
    "letter",
    "digit",
    "sign",
)


def _meant(name: str, there: Collection[str]) -> str:
    """The letter or digit that "the letter" and "the digit" stand for, where there is one."""
    if name not in ("letter", "digit"):
        return name
    return next((noun for noun in sorted(there) if noun.startswith(f"{name} ")), name)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
