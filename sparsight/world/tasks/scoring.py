"""Scorers: how much of a reply agrees with the one true answer, 0 to 1.

Every scorer takes any text and never raises. Case, articles, full stops, brackets and number words
do not matter; an answer in a sentence counts where it names one answer and no other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

Tokens = tuple[str, ...]
Span = tuple[float, float]
V = TypeVar("V")

LABELS = "ABCDEFGH"
_LONGEST = 4000  # characters of a reply that are read
_ARTICLES = frozenset(("a", "an", "the"))
_COUNTING = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip
_NUMBERS = {name: str(value) for value, name in enumerate(_COUNTING)} | {
    "once": "1",
    "twice": "2",
    "colour": "color",
}
_TOKEN = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")
_NUMBER = re.compile(r"(?<![A-Za-z0-9.])(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")  # not the 0 of x0
_AXES = {
    name: axis
    for axis, names in {
        "up": "up upward upwards upper top",
        "down": "down downward downwards lower bottom",
        "left": "left leftward leftwards",
        "right": "right rightward rightwards",
    }.items()
    for name in names.split()
}
_JOINED = re.compile(r"(up|down|upper|lower|top|bottom)(left|right)")
#: What may lead up to the text of a sign.
_LEAD = frozenset(
    ("it", "is", "the", "a", "sign", "plate", "says", "reads", "shows", "text", "word", "letter",
     "letters", "written")
)  # fmt: skip
_LABEL = re.compile(
    r"\W*(?:(?:the |my )?(?:correct )?(?:answer|option|choice)\b(?: is\b)?\W*)?([a-h])\b(.*)",
    re.DOTALL,
)
_LONE = re.compile(r"\b([A-H])\b")
_PART = re.compile(
    rf"\W*?(?:(?:at|from)\s+)?({_NUMBER.pattern})\s*(?:s\b|sec\w*)?\s*"
    rf"(?:(?:to|until|-|\u2013|\u2014|,)\s*({_NUMBER.pattern})\s*(?:s\b|sec\w*)?)?[^\w.]*(.*)",
    re.DOTALL,
)


@lru_cache(maxsize=4096)
def tokens(text: str) -> Tokens:
    """Its words in lower case: number words as digits, no articles before other words, hyphens
    as spaces."""
    found = [_NUMBERS.get(word, word) for word in _TOKEN.findall(text[:_LONGEST].lower())]
    last = len(found) - 1
    return tuple(w for i, w in enumerate(found) if i == last or w not in _ARTICLES)


def words(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """1 where the reply is the answer, or names it and none of the other choices."""
    got, want = tokens(reply), tokens(answer)
    if got == want:
        return 1.0
    return float({tokens(name) for name in _named(got, choices)} == {want})


def _named(got: Tokens, choices: Sequence[str]) -> list[str]:
    """The choices that the words name, in their order; the longest where several fit."""
    known = sorted(((tokens(name), name) for name in choices), key=lambda item: -len(item[0]))
    found, at = [], 0
    while at < len(got):
        for key, name in known:
            if key and got[at : at + len(key)] == key:
                found.append(name)
                at += len(key)
                break
        else:
            at += 1
    return found


def direction(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """1 for the same one of eight directions, however it is put: "up-left", "to the top left"."""
    return float(_axes(reply) == _axes(answer))


def _axes(text: str) -> frozenset[str]:
    found = set()
    for word in tokens(text):
        joined = _JOINED.fullmatch(word)
        found |= {_AXES[part] for part in (joined.groups() if joined else (word,)) if part in _AXES}
    return frozenset(found)


def sequence(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """1 where the reply names the things of the answer, parted by commas, in its order."""
    order = answer.split(", ")
    return float(_named(tokens(reply), order) == order)


def text(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """1 for the same letters and digits; case, spaces and what leads up to them aside."""
    found = re.findall(r"[a-z0-9]+", reply[:_LONGEST].lower())
    want = "".join(re.findall(r"[a-z0-9]+", answer.lower()))
    while len(found) > 1 and found[0] in _LEAD and "".join(found) != want:
        found.pop(0)
    return float("".join(found) == want)


def metres(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """1 where the one number of the reply is within a tenth of the answer."""
    found, true = numbers(reply), numbers(answer)[0]
    return float(len(found) == 1 and abs(found[0] - true) <= 0.1 * true + 1e-9)


def numbers(reply: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(reply[:_LONGEST])]


def interval(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """Intersection over union of two stretches of seconds, "2.0 to 4.5"."""
    found = numbers(reply)
    return overlap((found[0], found[1]), spans(answer)[0]) if len(found) == 2 else 0.0


def segments(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """F1 over stretches, "0.5 to 1.5, 3.0 to 4.0": found where their overlap is half or more."""
    return _f1(spans(reply), spans(answer), lambda a, b: overlap(a, b) >= 0.5)


def spans(reply: str) -> list[Span]:
    """The numbers of a reply taken two by two; none where one is left over."""
    found = numbers(reply)
    return list(zip(found[::2], found[1::2], strict=True)) if len(found) % 2 == 0 else []


def overlap(a: Span, b: Span) -> float:
    """Intersection over union; 0 where one of them is empty or ends before it starts."""
    union = max(a[1], b[1]) - min(a[0], b[0])
    if a[1] <= a[0] or b[1] <= b[0] or not math.isfinite(union):
        return 0.0
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) / union


def box(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """Intersection over union of two boxes, "[x0, y0, x1, y1]"."""
    found = numbers(reply)
    if len(found) != 4 or not all(map(math.isfinite, found)):
        return 0.0
    return box_overlap(found, numbers(answer))


def box_overlap(a: Sequence[float], b: Sequence[float]) -> float:
    if a[2] <= a[0] or a[3] <= a[1]:
        return 0.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    sizes = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (sizes - shared) if math.isfinite(sizes) else 0.0


def caption(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """F1 over events, "0.5 to 1.5: the red ring moves left; 2.0: the star turns blue".

    An event is found where its words are the same and its time overlaps by half or more, or both
    its ends are at most `slack` seconds off.
    """

    def same(a: tuple[Span, Tokens], b: tuple[Span, Tokens]) -> bool:
        (start, end), (start_b, end_b) = a[0], b[0]
        near = abs(start - start_b) <= slack + 1e-9 and abs(end - end_b) <= slack + 1e-9
        return a[1] == b[1] and (near or overlap(a[0], b[0]) >= 0.5)

    return _f1(_told(reply), _told(answer), same)


def _told(reply: str) -> list[tuple[Span, Tokens]]:
    """The events of a caption: times and words. What has no time has no length either."""
    found = []
    for part in re.split(r"[;\n]", reply[:_LONGEST]):
        match = _PART.fullmatch(part.strip())
        if match:
            start = float(match[1])
            found.append(((start, float(match[2] or start)), tokens(match[3])))
        elif tokens(part):
            found.append(((math.inf, math.inf), tokens(part)))
    return found


def _f1(found: Sequence[V], true: Sequence[V], same: Callable[[V, V], bool]) -> float:
    """Each true one is paired with the first found one that is the same."""
    left = list(found)
    hits = 0
    for item in true:
        match = next((i for i, other in enumerate(left) if same(other, item)), None)
        if match is not None:
            left.pop(match)
            hits += 1
    return 2 * hits / max(1, len(found) + len(true))


def choice(reply: str, answer: str, choices: Sequence[str] = (), slack: float = 0.0) -> float:
    """1 where the reply is the letter of the answer, its text, or both."""
    return float(_chosen(reply, choices) == LABELS.index(answer))


def _chosen(reply: str, choices: Sequence[str]) -> int | None:
    """Which of the options is meant, None where that is not clear."""
    got = tokens(reply)
    keys = [tokens(option) for option in choices]
    match = _LABEL.fullmatch(reply[:_LONGEST].strip().lower())
    label = LABELS.index(match[1].upper()) if match else len(keys)
    rest = tokens(match[2]) if match else ()
    if label < len(keys) and match:
        if not rest or keys[label] == rest:
            return label
        if rest in keys and not match[2].startswith(" "):  # the letter of one, the text of another
            return None
    if keys.count(got) == 1:
        return keys.index(got)
    named = set(_named(got, choices))
    if len(named) == 1:
        return list(choices).index(named.pop())
    labels = set(_LONE.findall(reply[:_LONGEST])) if not named else set()
    return LABELS.index(labels.pop()) if len(labels) == 1 else None


Scorer = Callable[[str, str, Sequence[str], float], float]
SCORERS: dict[str, Scorer] = {
    "words": words,
    "direction": direction,
    "sequence": sequence,
    "text": text,
    "metres": metres,
    "interval": interval,
    "segments": segments,
    "box": box,
    "caption": caption,
    "choice": choice,
}
