"""Reading what language models reply to questions with lettered options, and about intervals.

The rules are those by which LLoVi's published figures were made (arXiv:2312.17235): strict, and the
same for every model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: A line, or the rest of one, that begins with the first of several lettered options.
_FIRST_OPTION = re.compile(r"(?:^|(?<=\n)|(?<=\s))\(?A[.):]\s+\S.*?\s\(?B[.):]\s", re.DOTALL)


def split_options(question: str) -> tuple[str, str]:
    """A question and what stands from its first lettered option on; that is empty without any.

    Options are written "A. ...", "A) ..." or "(A) ...", in lines of their own or in one.
    """
    found = _FIRST_OPTION.search(question)
    if found is None:
        return question.strip(), ""
    return question[: found.start()].strip(), question[found.start() :].strip()


def first_letter(reply: str, options: int = 5) -> int:
    """Which option the very first character of a reply names: 0 for A; -1 for none."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:options].find(reply[0]) if reply else -1


def letter_after(reply: str, anchor: str, options: int = 5) -> int:
    """As `first_letter`, of what follows the words of `anchor`; -1 where they are not there."""
    _, found, rest = reply.partition(anchor)
    return first_letter(rest, options) if found else -1


def accuracy_by_chance(chosen: Sequence[int], right: Sequence[int], options: int = 5) -> float:
    """The share of right choices, where one that could not be read (-1) counts as a guess."""
    points = [
        1 / options if choice == -1 else float(choice == truth)
        for choice, truth in zip(chosen, right, strict=True)
    ]
    return sum(points) / len(points) if points else 0.0


def intervals(reply: str) -> list[tuple[int, int]]:
    """The whole numbers of "[3, 7] and [9, 12]".

    What follows the first full stop or the last bracket is not read. "None" stands for 0 as a
    beginning and for 1 as an end; an interval without a comma is (0, 0); a reply that is nothing
    of the kind is (0, 1).
    """
    text = reply.split(".")[0]
    found = []
    for part in text[: text.rfind("]") + 1].split("and"):
        ends = [end.strip() for end in part.replace("[", "").replace("]", "").split(",")]
        if part and len(ends) == 1:
            found.append((0, 0))
            continue
        try:
            start, end = ends
            found.append((0 if start == "None" else int(start), 1 if end == "None" else int(end)))
        except ValueError:
            return [(0, 1)]
    return found
