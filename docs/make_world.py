"""Write the table of tasks of docs/world.md, and its picture.

python docs/make_world.py             # the table, with what a blind model reaches: a minute
python docs/make_world.py --picture   # docs/world.jpg too
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from sparsight.world.exam import exam, prior
from sparsight.world.library import Library
from sparsight.world.request import Request
from sparsight.world.sheet import contact_sheet
from sparsight.world.tasks import TASKS, Question

PAGE = Path(__file__).resolve().with_name("world.md")
PICTURE = PAGE.with_suffix(".jpg")
QUESTIONS = 1000
HEAD = "| task | for example | answer | answers there are | blind |"


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(), table()))
    if "--picture" in sys.argv:
        library = Library()
        request = Request("test", frames=8, turns=4, seed=57)
        sheet = contact_sheet(list(request.asked(library)), library)
        small = sheet.resize(
            (sheet.width * 3 // 4, sheet.height * 3 // 4), Image.Resampling.LANCZOS
        )
        small.save(PICTURE, quality=85, subsampling=0)  # grain makes a PNG three times as large


def table() -> list[str]:
    lines = [HEAD, "|---|---|---|---|---:|"]
    for task in TASKS:
        blind = 100 * prior(task, QUESTIONS).score(exam(task, "test", QUESTIONS))
        lines.append(f"{row(task)} {blind:.0f} % |")
    return lines


def row(task: str) -> str:
    """All of a task's row but its last cell."""
    question = next(exam(task, "test", 1)).question
    text = question.text.replace("\n", " ").replace("|", "/")
    return f"| `{task}` | {text} | {question.answer} | {answers(question)} |"


def answers(question: Question) -> str:
    """How many answers there are, or what they look like."""
    open_ended = {
        "box": "boxes in percent",
        "interval": "seconds from, to",
        "segments": "stretches of seconds",
        "caption": "events with seconds",
        "text": "signs of two or three characters",
    }
    return open_ended.get(question.scorer) or str(len(question.choices) or "things by name")


def with_table(page: str, lines: list[str]) -> str:
    """The page with its table replaced: from its head to the next empty line."""
    before, head, rest = page.partition(HEAD)
    assert head, "the page has no table of tasks"
    return before + "\n".join(lines) + "\n\n" + rest.partition("\n\n")[2]


if __name__ == "__main__":
    main()
