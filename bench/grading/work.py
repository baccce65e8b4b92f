"""A class of any size for the tiny lab: every student answers each exercise, rightly or with a typical mistake.

The answers are the lab's own `right.py` and `wrong.py`. The same number gives the same student, whatever the format
of the notebook, so that all tools grade the same work. What this is *not*: hostile, or slow. It is what grading costs
when nothing happens.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dca_lab.grading import Lab, load_lab

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "grading" / "tiny_lab"


def tiny_lab() -> Lab:
    """The lab of the tests."""
    return load_lab(FOLDER)


def answers(lab: Lab, number: int) -> dict[str, str]:
    """What the student of that number wrote, by exercise.

    Examples
    --------
    >>> found = answers(tiny_lab(), 3)
    >>> found == answers(tiny_lab(), 3), found["relu"].startswith("def relu(")
    (True, True)
    """
    rng = np.random.default_rng(number)
    found = {}
    for exercise in lab.exercises:
        right = [one for one in lab.right if one.exercise == exercise.name]
        wrong = [one for one in lab.wrong if one.exercise == exercise.name]
        chosen = right if rng.random() < 0.6 else wrong
        found[exercise.name] = chosen[rng.integers(len(chosen))].source
    return found


def filled(notebook: NotebookNode, lab: Lab, number: int) -> NotebookNode:
    """A copy of a released notebook with that student's answers."""
    import nbformat

    copy, mine = nbformat.from_dict(notebook), answers(lab, number)
    for cell in copy.cells:
        for name, text in mine.items():
            if cell.cell_type == "code" and cell.source.startswith(f"def {name}("):
                cell.source = text
    return copy


def write_class(released: Path, lab: Lab, folder: Path, students: int, name: str = "{student}.ipynb") -> Path:
    """The notebooks of students s000, s001, ... made from a released one."""
    import nbformat

    notebook = nbformat.read(released, as_version=4)
    for number in range(students):
        path = folder / name.format(student=student(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(filled(notebook, lab, number), path)
    return folder


def student(number: int) -> str:
    """The name of a student.

    Examples
    --------
    >>> student(7)
    's007'
    """
    return f"s{number:03d}"
