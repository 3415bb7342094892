"""What systems ask a model in words, and how its answers are read.

Nothing here raises on what a model says: an answer that cannot be read is no answer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

NAMES = 8  # of one kind, at most: each is a question to ask of every frame

#: Words that name no thing to look for: what they leave of a question are its nouns, nearly.
_WORDS = """
a an the this that these those it its he she they them him her his their we us our you your me
my i one ones some any each every all both either neither other another same such none
who whom whose what which when where why how
am is are was were be been being do does did done doing have has had having can could will
would shall should may might must
of in on at to from by for with without within into onto out off over under up down above below
between among through across along around near next behind beside before after during since
until till against about as per via than like
and or but nor not no yes if then else so because while there here
very too just only also still yet again ever never always often first second third last
many much more most less least few several long enough best most likely
happen happens happened happening appear appears appeared appearing show shows showed shown
showing see sees saw seen seeing look looks looked looking go goes went gone going come comes
came coming get gets got make makes made take takes took use uses used say says said tell tells
told mean means describe describes described think move moves moved moving change changes
changed follow follows following keep keeps kept give gives given
answer answers option options choice choices question questions correct true false statement
video videos film films clip clips image images picture pictures frame frames scene scenes
screen camera moment time times second seconds minute minutes beginning start end middle part
color colour kind type sort number name way direction side left right top bottom thing things
object objects
"""
_PLAIN = frozenset(_WORDS.split())


def film_in_words(seconds: float, times: Sequence[float]) -> str:
    """How LLaVA-Video is told of a film: its length and the times of its frames, in seconds."""
    listed = ",".join(f"{time:.2f}s" for time in times)
    return (
        f"The video lasts for {seconds:.2f} seconds, and {len(times)} frames are uniformly sampled "
        f"from it. These frames are located at {listed}.Please answer the following questions "
        "related to this video."
    )


def yes_or_no(question: str) -> str:
    """A question whose answer is the letter A for yes or B for no."""
    return f"{question} A. yes, B. no\nAnswer with the letter of the option."


def is_there(name: str) -> str:
    """Asks whether something is there, to be answered by yes or no."""
    if re.match(r"(?:the|an?|some|any|my|his|her|their)\b", name.lower()) or name.endswith("s"):
        return f"Is there {name}?"
    return f"Is there {'an' if name[0].lower() in 'aeiou' else 'a'} {name}?"


def asking_for_objects(question: str) -> str:
    """Asks which objects answer a question about a film (T*, arXiv:2504.02259): two lines."""
    return (
        f"A question about this video: {question}\n"
        "Which objects have to be found to answer it? Write two lines and nothing else. "
        "First line: the key objects that show the answer, separated by commas. "
        "Second line: cue objects that are likely to be near them, separated by commas."
    )


def key_and_cue_objects(reply: str) -> tuple[list[str], list[str]] | None:
    """The objects of both lines; None where there are not two, or the first names nothing."""
    lines = [line for line in reply.splitlines() if line.strip()]
    if len(lines) != 2:
        return None
    keys, cues = (_distinct(map(_object, line.split(","))) for line in lines)
    return (keys, [cue for cue in cues if cue not in keys]) if keys else None


def _object(text: str) -> str:
    """One name: lower case, without its number, heading and punctuation."""
    heading = r"^(?:\d+[.)]|(?:key|target|cue) objects?\b|[\W_])+"
    return re.sub(r"[^\w\s-]", "", re.sub(heading, "", text.lower())).strip()


def plain_nouns(question: str) -> list[str]:
    """The things a question names, by a plain rule: what stands between its function words.

    "Where is the red cat, on the table?" -> ["red cat", "table"]. Letters that mark options are
    left out.
    """
    question = re.sub(r"\b[A-Za-z][.)]\s", " , ", question)
    phrases: list[list[str]] = [[]]
    for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*|[^\w\s]", question):
        if word.lower() in _PLAIN or word.isdigit() or not word[0].isalpha():
            phrases.append([])
        else:
            phrases[-1].append(word)
    return _distinct(" ".join(phrase) for phrase in phrases)


def asking_for_a_list(question: str) -> str:
    """Asks in three steps for objects to detect (QuoTA, arXiv:2503.08689)."""
    return (
        f"Question: {question}\n"
        "Before it is answered, decide which objects to detect in the video. Write these steps:\n"
        "Step 1: yes or no: is it necessary to detect physical objects?\n"
        "Step 2: if yes, a Python list of all objects to detect.\n"
        "Step 3: that list without what is not a physical object, or null if nothing is left.\n"
        "Example. Question: How many green cups stand on the shelf at the end?\n"
        'Step 1: yes\nStep 2: ["green cups", "shelf", "end"]\nStep 3: ["green cups", "shelf"]\n'
        "Example. Question: What color is the hat of the man beside the door?\n"
        'Step 1: yes\nStep 2: ["hat", "man", "color"]\nStep 3: ["hat", "man"]\n'
        "Example. Question: In which country was this novel written?\nStep 1: no"
    )


def listed_objects(reply: str) -> list[str]:
    """The list of the third step; empty where the first says no or the list cannot be read."""
    text = reply.lower()
    first = re.search(r"step 1:\s*(yes|no)", text)
    third = re.search(r"step 3:\s*(\[[^\]]*\])", text)
    if first is None or first[1] == "no" or third is None:
        return []
    try:
        found = ast.literal_eval(third[1])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return _distinct(item.strip() for item in found if isinstance(item, str))


def _distinct(names: Iterable[str]) -> list[str]:
    """Each once, in order, without empty ones; no more than `NAMES`."""
    return list(dict.fromkeys(filter(None, names)))[:NAMES]
