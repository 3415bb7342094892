"""Reading replies: the tables of LLoVi's official code, and its figures from them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sparsight.llm.replies import (
    accuracy_by_chance,
    first_letter,
    intervals,
    letter_after,
    split_options,
)
from sparsight.ops.intervals import best_overlap

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "23-llovi"
ANCHOR = "The most correct answer is ("


def golden(name: str) -> Any:
    raw = (GOLDEN / name).read_bytes()
    return json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)


# ---- letters -----------------------------------------------------------------------------------


def test_letters_are_read_as_officially() -> None:
    for row in golden("qa-a.json")["parser"]:
        reply = row["response"]
        assert first_letter(reply) == row["first_char"]
        # the official code fails where nothing follows its anchor
        after = -1 if row["after_anchor_error"] else row["after_anchor"]
        assert letter_after(f"Which? {ANCHOR}{reply}", ANCHOR) == after
        assert letter_after(reply, ANCHOR) == row["no_anchor"]


@pytest.mark.parametrize(
    ("reply", "letter"), [("B. because", 1), ("(B)", -1), ("", -1), ("E", 4), ("F", -1), ("b", -1)]
)
def test_the_very_first_character_counts(reply: str, letter: int) -> None:
    assert first_letter(reply) == letter


def test_with_four_options_there_is_no_fifth_letter() -> None:
    assert (first_letter("E", options=4), first_letter("D", options=4)) == (-1, 3)


def test_what_cannot_be_read_counts_as_a_guess() -> None:
    rows = list(golden("qa-a.json")["egoschema"].values())
    chosen, right = [row["pred"] for row in rows], [row["truth"] for row in rows]
    figures = golden("qa-figures-a.json")
    assert accuracy_by_chance(chosen, right) == pytest.approx(figures["egoschema"]["acc"], abs=1e-9)
    assert accuracy_by_chance(chosen, right, options=4) == pytest.approx(
        figures["videomme"]["acc"], abs=1e-9
    )
    assert accuracy_by_chance([-1] * 7, [0, 1, 2, 3, 4, 0, 1]) == pytest.approx(0.2)
    assert accuracy_by_chance([], []) == 0.0


# ---- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("What is it?\nA. a dog\nB. a cat", "What is it?", "A. a dog\nB. a cat"),
        ("When? A. 2.0 to 3.0 B. 4.0 to 5.0", "When?", "A. 2.0 to 3.0 B. 4.0 to 5.0"),
        ("Who?\n(A) he\n(B) she\nOne letter.", "Who?", "(A) he\n(B) she\nOne letter."),
        ("Who?\nA: he\nB: she", "Who?", "A: he\nB: she"),
        ("Is plan A. any good?", "Is plan A. any good?", ""),
        ("  What happens?  ", "What happens?", ""),
    ],
)
def test_a_question_is_parted_from_its_options(text: str, question: str, options: str) -> None:
    assert split_options(text) == (question, options)


# ---- intervals ---------------------------------------------------------------------------------


def test_intervals_are_read_as_officially() -> None:
    for row in golden("gqa-a.json.gz")["llovi_predictions"].values():
        assert [list(span) for span in intervals(row["response"])] == row["pred"]


@pytest.mark.parametrize(
    ("reply", "spans"),
    [
        ("[3, 7]", [(3, 7)]),
        ("[3, 7] and [9, 12]. They show it [1, 2].", [(3, 7), (9, 12)]),
        ("[None, 7]", [(0, 7)]),
        ("[3, None]", [(3, 1)]),
        ("[9]", [(0, 0)]),
        ("somewhere", [(0, 1)]),
        ("[three, 7]", [(0, 1)]),
        ("[1, 2, 3]", [(0, 1)]),
        ("", [(0, 1)]),
    ],
)
def test_what_is_no_interval_has_a_rule_of_its_own(
    reply: str, spans: list[tuple[int, int]]
) -> None:
    assert intervals(reply) == spans


def test_the_official_figures_of_grounding_follow() -> None:
    data, figures = golden("gqa-a.json.gz"), golden("gqa-figures-a.json")
    rows = []
    for video, known in data["ground_truth"].items():
        for question, spans in known["location"].items():
            key = f"{video}_{question}"
            if key in data["llovi_predictions"]:
                first = intervals(data["llovi_predictions"][key]["response"])[0]
                right = data["qa"][key]["truth"] == data["qa"][key]["pred"]
                rows.append((right, *best_overlap(first, [(a, b) for a, b in spans])))
    counts = {
        "Acc_GQA": sum(right and iop >= 0.5 for right, _, iop in rows),
        "mIoP": sum(iop for *_, iop in rows),
        "TIoP_0.3": sum(iop >= 0.3 for *_, iop in rows),
        "TIoP_0.5": sum(iop >= 0.5 for *_, iop in rows),
        "mIoU": sum(iou for _, iou, _ in rows),
        "TIoU_0.3": sum(iou >= 0.3 for _, iou, _ in rows),
        "TIoU_0.5": sum(iou >= 0.5 for _, iou, _ in rows),
    }
    ours = {name: 100 * count / len(rows) for name, count in counts.items()}
    assert ours == pytest.approx(figures["llovi"], abs=1e-9)
