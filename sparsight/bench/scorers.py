"""Exact scorers for users' own questions: a reply in, 0 or 1 out.

Case, articles and punctuation do not matter. Nothing is guessed: a reply that says more than the
answer is wrong, unless the question has options or a number for an answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from sparsight.core.errors import UserError, unknown

Score = Callable[[str], float]
#: What scores a reply against an answer: (reply, answer, choices, slack in seconds) -> 0..1.
Scorer = Callable[[str, str, Sequence[str], float], float]

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)|(?<![\w.])-?\.\d+")
_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip
_LEAD = re.compile(r"(?:the |my )?(?:correct |best )?(?:answer|option|choice)(?: is)?\W*", re.I)


def normalized(text: str) -> str:
    """Lower case, no punctuation, single spaces, no articles (unless it is all articles)."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\u2019", "")
    words = re.sub(r"[^\w\s]|_", " ", text).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def is_number(answer: str) -> bool:
    """Whether an answer is a number and nothing else."""
    return _NUMBER.fullmatch(answer.strip()) is not None


def text(accepted: Sequence[str]) -> Score:
    """1 where the reply is one of the accepted texts."""
    known = {normalized(answer) for answer in accepted}
    return lambda reply: float(normalized(reply) in known)


def number(accepted: Sequence[str]) -> Score:
    """1 where the only number in the reply, in digits or as a word up to twelve, is accepted."""
    known = {_value(answer.strip()) for answer in accepted}

    def score(reply: str) -> float:
        found = {_value(match) for match in _NUMBER.findall(reply)}
        found |= {float(_WORDS.index(w)) for w in normalized(reply).split() if w in _WORDS}
        return float(len(found) == 1 and found <= known)

    return score


def choice(choices: Sequence[str], accepted: Sequence[str]) -> Score:
    """1 where the reply is the letter or the text of an accepted option, or both, or names it
    and no other option. Raises `UserError` for an answer that is no option."""
    right = {_option(answer, choices) for answer in accepted}
    return lambda reply: float(chosen(reply, choices) in right)


def chosen(reply: str, choices: Sequence[str]) -> int | None:
    """Which of the options a reply means; None where that is not clear."""
    keys = [normalized(option) for option in choices]
    got = normalized(reply)
    if keys.count(got) == 1:
        return keys.index(got)
    bare = _LEAD.sub("", reply.strip(), count=1) if _LEAD.match(reply.strip()) else reply.strip()
    match = re.match(r"\W*([A-Za-z])(?!\w)(.*)", bare, re.DOTALL)
    if match:
        place, rest = LABELS.index(match[1].upper()), match[2]
        named = normalized(rest)
        if place < len(keys) and named in ("", keys[place]):
            return place
        marked = re.match(r"\s*[.):,]", rest) is not None
        if place < len(keys) and marked:  # "B. Because ..."; not the article of "a red ring"
            return None if named in keys else place
    padded = f" {got} "
    named_ones = [place for place, key in enumerate(keys) if key and f" {key} " in padded]
    # An option that is part of another, "ring" of "red ring", is not what is meant.
    whole = [i for i in named_ones if not any(keys[i] in keys[j] for j in named_ones if j != i)]
    return whole[0] if len(whole) == 1 else None


def scorer_for(accepted: Sequence[str], choices: Sequence[str] = ()) -> Score:
    """The scorer that suits an answer: by its options, as a number, or as text."""
    if choices:
        return choice(choices, accepted)
    if all(map(is_number, accepted)):
        return number(accepted)
    return text(accepted)


def named_scorer(
    name: str,
    answer: str,
    choices: Sequence[str],
    slack: float,
    scorers: Mapping[str, Scorer] | None,
) -> Score:
    """The scorer that a record names: one of `scorers`, or else of those here ("choice",
    "words"). Raises `UserError` for one that is not known."""
    if scorers is not None:
        if name not in scorers:
            raise unknown("scorer", name, scorers)
        found = scorers[name]
        return lambda reply: found(reply, answer, choices, slack)
    if name == "choice":
        return choice(choices, [answer])
    if name == "words":
        return text([answer])
    raise unknown("scorer", name, ("choice", "words"))


def _option(answer: str, choices: Sequence[str]) -> int:
    keys = [normalized(option) for option in choices]
    if keys.count(normalized(answer)) == 1:
        return keys.index(normalized(answer))
    letter = answer.strip().rstrip(".)").upper()
    if len(letter) == 1 and letter in LABELS[: len(choices)]:
        return LABELS.index(letter)
    raise UserError(f"the answer {answer!r} is neither an option nor the letter of one")


def _value(written: str) -> float:
    return float(written.replace(",", ""))
