"""What the cells of a notebook explain of its grade: a function that is missing, written twice, another lab's; weights.

What this is *not*: a judge. Nothing here changes a point; the sentences stand on the feedback page.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from dca_lab.grading.exercise import Lab
from dca_lab.grading.notebook import Cells
from dca_lab.grading.sandbox import CellError

MOST_NUMBERS, MOST_PACKED = (
    400,
    2000,
)  # typed numbers, and characters of packed text, that no honest cell needs
_NUMBER = re.compile(r"(?<![\w.])\d[\w.]*")
_PACKED = re.compile(r"[\w+/=\\-]{40,}")


def doubled(record: dict[str, Any], cells: Cells) -> Iterator[str]:
    """Notes for exercises without all points whose function stands in several cells: often a stub below the solution."""
    for name, entry in record["exercises"].items():
        pattern = re.compile(rf"^def[ \t]+{name}\b", re.MULTILINE)
        found = [str(number) for number, source in enumerate(cells.sources, 1) if pattern.search(source)]
        if len(found) > 1 and entry["points"] < entry["out_of"]:
            listed = f"{', '.join(found[:-1][:20])} and {found[-1]}"
            yield f"`{name}` is defined in code cells {listed}; the last one counts"


def missing(name: str, names: list[str], errors: list[CellError], cells: Cells) -> str:
    """Why there is no such function: its cell stopped, it has another name, or it is not there."""
    text = f"There is no function `{name}`"
    for error in errors:
        source = cells.sources[error.cell - 1] if 0 < error.cell <= len(cells.sources) else ""
        # not \s: over a million empty lines it would take hours
        if re.search(rf"^[ \t]*def[ \t]+{name}\b", source, re.MULTILINE):
            line = f" in line {error.line}" if error.line else ""
            return f"{text}: code cell {error.cell}, which defines it, stopped with {error.exception[:80]}{line}."
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"{text}; the notebook defines `{close[0]}`. Give it the name of the exercise."
    return f"{text}: was its cell deleted or renamed?"


def doubts(lab: Lab, cells: Cells, names: list[str], constants: dict[str, Any]) -> list[str]:
    """Notes for a notebook that seems to belong to another lab, or to have another variant's constants."""
    if cells.lab is not None and cells.lab != lab.name:
        return [f"the notebook says that it belongs to the lab {cells.lab}; it was graded as {lab.name}"]
    if not {exercise.name for exercise in lab.exercises} & set(names):
        return [f"the notebook defines no function of the lab {lab.name}: is it the notebook of another lab?"]
    released = json.loads(json.dumps(constants, default=repr))  # as they were written into the notebook
    if cells.constants is not None and cells.constants != released:
        return [
            "the notebook was released with other constants than those it was graded with: is it another student's, "
            "or was --variants forgotten?"
        ]
    return []


def carried(cells: Cells) -> Iterator[str]:
    """Notes for cells full of numbers, or of text that may be packed numbers: weights, trained at home on the test images?

    Examples
    --------
    >>> list(carried(Cells(["x = 1", "w = [" + "0.25, " * 1000 + "]"])))
    ['code cell 2 holds 1,000 typed numbers: a person should look where they come from']
    >>> list(carried(Cells(["w = b'" + "QUJD" * 1000 + "'"])))
    ['code cell 1 holds 4,000 characters of packed text: a person should look where they come from']
    """
    for number, source in enumerate(cells.sources, 1):
        typed = sum(1 for _ in _NUMBER.finditer(source))
        packed = sum(len(found.group()) for found in _PACKED.finditer(source))
        if typed > MOST_NUMBERS or packed > MOST_PACKED:
            what = (
                f"{typed:,} typed numbers"
                if typed > MOST_NUMBERS
                else f"{packed:,} characters of packed text"
            )
            yield f"code cell {number} holds {what}: a person should look where they come from"
