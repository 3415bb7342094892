"""Choose the film of `make demo` for an embedded model: clip.mp4 and question.json beside it.

    python recipes/embedded_demo.py out/mini/model

Taken is the first film of the test split with enough to see that the model answers rightly, with
all its tokens and with the share that the demo shows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import sparsight
from sparsight.cli.demo import SYSTEMS
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan, parse_system
from sparsight.world.request import Request
from sparsight.world.tasks import Question, right
from sparsight.world.write import make

LEAST = 3  # things to be seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", default="order")
    parser.add_argument("--films", type=int, default=40, help="to choose from")
    options = parser.parse_args()
    vlm = sparsight.load(str(options.model))
    views = [vlm, vlm.planned(Plan(systems=(parse_system(SYSTEMS[0]),)))]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make(Request("test", options.task, options.films, frames=8, side=224), folder)
        for line in (folder / "conversations.jsonl").read_text().splitlines():
            record = json.loads(line)
            question = question_of(record)
            film = sparsight.load_media(folder / record["video"])
            seen = len(record["truth"]["things"])
            if seen >= LEAST and all(
                right(question, view.ask(film, question.text, temperature=0).text) for view in views
            ):
                shutil.copy(folder / record["video"], options.model / "clip.mp4")
                told = {"question": question.text, "answer": question.answer}
                (options.model / "question.json").write_text(json.dumps(told, indent=1) + "\n")
                print(f"{question.text} {question.answer}")
                return
    raise UserError(f"{options.model} answers none of {options.films} films as the demo should")


def question_of(record: dict) -> Question:
    """The question of a record of `sparsight world make`."""
    human, gpt = record["conversations"]
    return Question(
        record["task"],
        human["value"].removeprefix("<image>\n"),
        gpt["value"],
        record["scorer"],
        tuple(record["choices"]),
        record["form"],
        record["size"],
        record["slack"],
    )


if __name__ == "__main__":
    main()
