"""The report of a comparison, by its text, its structure and its colors."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sparsight.tune.bars import stages_of
from sparsight.tune.examples import Example, Shown
from sparsight.tune.report import report, write_report
from sparsight.tune.report_parts import STYLE
from sparsight.tune.rows import Row, TaskScore
from tests.tune.made import field, full, row

EVIL = "<script>alert(1)</script>\"'&"
PNG = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "img", "input", "wbr"}


class Page(HTMLParser):
    """The elements of a page in order; refuses one that is not closed as it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []  # (innermost element, text)
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str, name: str = "") -> list[dict[str, str | None]]:
        """The attributes of the elements of a tag, of one class where `name` is given."""
        of_tag = [attrs for found, attrs in self.elements if found == tag]
        return [item for item in of_tag if not name or name in (item.get("class") or "").split()]

    def text(self, *tags: str) -> list[str]:
        return [words for tag, words in self.words if tag in tags]


def made(rows: list[Row] | None = None, **other: Any) -> str:
    return report(
        field() if rows is None else rows,
        **{"title": "Two systems", "about": {"seed": "0"}, **other},
    )


def example(**other: Any) -> Example:
    told = {"full": Shown("a dog", True, PNG, "64 tokens seen"), "a": Shown("a cat", False, b"")}
    return Example("What is it?", "a dog", PNG, {**told, **other})


# The whole page


def test_it_says_the_conclusion_first_and_then_shows_the_numbers():
    text = made(examples=[example()])
    order = [
        "Two systems</h1>", "within noise of the full model", "Accuracy over cost</h2>",
        "All numbers</h2>", "By task</h2>", "Where the time goes</h2>", "Examples</h2>",
        "About</h2>",
    ]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "Examples</h2>" not in made()


def test_nothing_is_fetched():
    text = made(examples=[example()])
    page = Page(text)
    for tag, attrs in page.elements:
        assert tag not in ("link", "iframe", "object", "base"), tag
        assert "href" not in attrs
        assert (attrs.get("src") or "data:").startswith("data:")
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub(r"http-equiv|https?://www.w3.org\S*", "", text)
    (policy,) = [
        item["content"] for item in page.all("meta")
        if item.get("http-equiv") == "Content-Security-Policy"
    ]  # fmt: skip
    assert policy is not None
    assert "default-src 'none'" in policy


def test_whatever_comes_from_data_is_escaped():
    spoilt = [
        replace(
            item,
            model=EVIL,
            label=item.label + EVIL,
            knobs={EVIL: {}},
            reasons={EVIL: 1},
            failures=1,
            stages={EVIL: 0.1},
            tasks={EVIL: TaskScore(0.5, (0.4, 0.6), 50)},
            beside=tuple(label + EVIL for label in item.beside),
        )
        for item in field()
    ]
    shown = Example(EVIL, EVIL, PNG, {EVIL: Shown(EVIL, True, PNG, EVIL)}, EVIL)
    both = [*spoilt, *[replace(item, model="other" + EVIL) for item in spoilt]]
    for rows in (spoilt, both):
        page = Page(made(rows, title=EVIL, about={EVIL: EVIL}, examples=[shown]))
        assert len(page.all("script")) == 1
        assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
        assert [words.strip() for words in page.text("h3")] == [EVIL] * len(page.text("h3"))
        assert "alert(1)" not in "".join(page.text("script"))


def test_examples_of_several_models_say_whose_they_are():
    assert "right answer: a dog" in made(examples=[example()])
    text = made(examples=[replace(example(), model="mini"), replace(example(), model="other")])
    assert "mini &middot; right answer: a dog" in text
    assert "other &middot; right answer: a dog" in text


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    for name in ("one.html", "two.html"):
        write_report(
            field(), tmp_path / name, title="Report", about={"seed": "0"}, examples=[example()]
        )
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "two.html"]


def test_what_was_there_stays_until_the_report_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "report.html"
    path.write_text("before")

    def full_disk(self: Path, text: str, encoding: str) -> None:
        self.write_bytes(b"<!doc")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(field(), path, title="Report", about={})
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_rows_without_the_full_model_are_a_mistake_of_the_caller():
    with pytest.raises(AssertionError, match="mini has no row of the full model"):
        made([row("a", 0.7)])


def test_every_model_has_its_conclusion_and_its_pictures():
    page = Page(made([*field(), *(replace(item, model="large") for item in field())]))
    assert len(page.all("p", "conclusion")) == 2
    assert len(page.all("fieldset", "axes")) == 2
    heads = page.text("h2")
    assert "Accuracy over cost: mini" in heads
    assert "Accuracy over cost: large" in heads
    assert "model" in page.text("button")


# Pictures


def test_accuracy_is_shown_over_three_costs_wide_and_narrow():
    page = Page(made())
    assert page.text("label") == ["FLOPs", "tokens", "first token"]
    switches = [item for item in page.all("input") if item.get("type") == "radio"]
    assert ["checked" in item for item in switches] == [True, False, False]
    assert {item["id"] for item in switches} == {item["for"] for item in page.all("label")}
    assert len(page.all("svg", "wide")) == len(page.all("svg", "narrow")) == 3


def test_a_row_that_answered_nothing_stands_in_the_table_and_not_in_the_picture():
    broken = row("broken", 0.0, 0.0, failures=100, flops={}, total=0.0, stages={})
    page = Page(made([*field(), broken]))
    tips = [item.get("data-tip") or "" for item in page.all("g")]
    assert not [words for words in tips if words.startswith("broken")]
    assert "100 of 100" in page.text("td")


def test_bars_are_as_long_as_the_accuracy_beside_a_line_at_the_full_models():
    text = made()
    task = text[text.index('class="tasks"') : text.index("Where the time goes")]
    widths = re.findall(r'<rect x="0" y="3" height="10" width="([\d.]+)%"', task)
    assert [float(width) for width in widths] == [80, 79, 77, 70, 50, 76, 60]
    levels = re.findall(r'<line class="level" x1="([\d.]+)%"', task)
    assert {float(level) for level in levels} == {80}


def test_stages_lie_end_to_end_and_the_longest_row_fills_the_width():
    text = made([full(), row("a", 0.7, 0.25)])
    time = text[text.index("Where the time goes") :]
    found = re.findall(r'<rect class="stage(\d)"[^>]* x="([\d.]+)%"[^>]* width="([\d.]+)%"', time)
    bars = [[(float(x), float(width)) for _, x, width in part] for part in (found[:3], found[3:])]
    for bar in bars:
        for (x, width), (following, _) in pairwise(bar):
            assert x + width == pytest.approx(following, abs=0.02)
    assert sum(width for _, width in bars[0]) == pytest.approx(100, abs=0.05)
    assert sum(width for _, width in bars[1]) == pytest.approx(50, abs=0.05)


def test_what_is_left_of_the_whole_is_the_answering():
    assert stages_of(row("a", 0.7, 0.25)) == pytest.approx(
        {"encode": 0.1, "prefill": 0.1, "answering": 0.1}
    )
    assert "answering" not in stages_of(row("a", 0.7, total=0.0))


def test_of_many_rows_the_bars_show_some_and_say_so():
    rows = [full(), *(row(f"s{place}", 0.5 + place / 100) for place in range(20))]
    page = Page(made(rows))
    assert "14 of 21 plans drawn" in " ".join(page.text("p"))
    assert len(page.all("tr", "system")) == 20
    bars = page.all("div", "bar")
    assert len(bars) == 2 * 14


# The table


def cells(text: str) -> dict[str, list[str]]:
    """Label -> the words of its cells in the table of all rows."""
    table = text[text.index('id="rows"') :]
    table = table[: table.index("</table>")]
    lines = re.findall(r"<tr class=.*?</tr>", table)
    plain = [
        [re.sub("<small>", " ", cell) for cell in re.split("</t[dh]>", line)] for line in lines
    ]
    words = [[re.sub("<[^>]*>", "", cell) for cell in line[:-1]] for line in plain]
    return {line[0]: line[1:] for line in words}


def test_the_table_holds_every_row_with_its_numbers_and_words():
    found = cells(made())
    assert len(found) == len(field())
    assert found["holitom:keep=0.1"] == [
        "77 % 69 % to 85 %", "-3.0 -9.0 to +3.0", "no clear difference p = 1.000",
        "behind random:keep=0.1, 60 %", "90 %", "100 10 %", "1.4 TFLOP", "9.5 MiB", "140.0 ms",
        "240.0 ms", "1.0 ms", "953.7 MiB", "none",
    ]  # fmt: skip
    assert found["fastv:keep=0.1"][2:4] == [
        "worse p = 0.010", "as good random:keep=0.1, 60 %",
    ]  # fmt: skip
    assert found["full"][1:4] == ["", "", ""]


def test_the_significance_is_in_words_beside_the_full_model():
    tiny = cells(made([full(), row("a", 0.5, p_value=0.0004), row("b", 0.9, p_value=0.01)]))
    assert tiny["a"][2] == "worse p &lt; 0.001"
    assert tiny["b"][2] == "better p = 0.010"


def test_failures_are_counted_with_their_reasons():
    rows = [full(), row("a", 0.7, failures=3, reasons={"too long": 2, "broken": 1})]
    assert cells(made(rows))["a"][-1] == "3 of 100 too long (2); broken (1)"


def test_every_column_sorts_by_values_not_by_words():
    page = Page(made())
    assert len(page.text("button")) == 14
    values = [item["data-value"] for item in page.all("td") if "data-value" in item]
    assert "0.77" in values
    numbers = [value for value in values if value is not None]
    assert all(float(value) >= -1 for value in numbers)


# Examples


def test_an_example_shows_the_question_the_replies_and_their_pictures():
    page = Page(made(examples=[example()]))
    assert "What is it?" in page.text("h3")
    assert "right answer: a dog" in page.text("p")
    assert [words.split()[-1] for words in page.text("span") if words[0] in "✓✗"] == [
        "right", "wrong",
    ]  # fmt: skip
    images = page.all("img")
    assert [item["alt"] for item in images] == ["what was asked about", "kept by full"]


def test_a_reply_may_be_a_plain_tuple():
    plain: Any = ("a bird", False, PNG)
    assert "a bird" in Page(made(examples=[example(b=plain)])).text("p")


# Colors


def colors(mode: str) -> dict[str, str]:
    """The variables of a mode: the dark ones stand in their media queries."""
    dark = "".join(re.findall(r"prefers-color-scheme: dark\) \{ :root \{(.*?)\}", STYLE, re.S))
    every = re.sub(r"@media \(prefers-color-scheme: dark\) \{ :root \{.*?\}", "", STYLE, flags=re.S)
    light = "".join(re.findall(r":root \{(.*?)\}", every, re.S))
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if mode == "light" else dark))


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_words_and_marks_stand_out_from_the_paper(mode: str):
    known = colors(mode)
    for name in ("ink", "quiet", "base", "worse", "full"):
        assert contrast(known[name], known["paper"]) >= 4.5, name
    for name in ("kept", *(f"s{place}" for place in range(8))):
        assert contrast(known[name], known["paper"]) >= 3, name


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_neighbouring_stages_differ_in_lightness_too(mode: str):
    known = colors(mode)
    pairs = [(known[f"s{place}"], known[f"s{place + 1}"]) for place in range(7)]
    assert min(contrast(*pair) for pair in pairs) >= 1.7
