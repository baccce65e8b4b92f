"""The source notebook of a lab: exercises, solutions, and the constants that differ between variants.

`lab.ipynb` holds everything. From it are made: the student's copy, where each region between `### BEGIN SOLUTION` and
`### END SOLUTION` becomes ``raise NotImplementedError``; the solved notebook; and copies in which chosen exercises are
solved wrongly. A constant of a variant stands as ``{{bits}}`` in text, and as ``BITS = 4  # {{bits}}`` in code, where
the literal is replaced and the marker cut. What this is *not*: a reader for strangers' notebooks (`notebook.py`).
"""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dca_lab.grading.exercise import Lab, LabError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CONSTANT = re.compile(r"^(?P<left>\s*\w+\s*(?::[^=]+)?=\s*)(?P<value>.+?)\s*#\s*\{\{(?P<name>\w+)\}\}\s*$")
MARK = re.compile(r"\{\{(\w+)\}\}")


def read_notebook(folder: Path) -> dict[str, Any]:
    """`lab.ipynb` of a folder as a dict of notebook format 4, the source of each cell as one text."""
    path = folder / "lab.ipynb"
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            text = cell["source"]
            cell["source"] = text if isinstance(text, str) else "".join(text)
            cell.setdefault("metadata", {})
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} is not a notebook of format 4: {error}") from error
    return notebook


def tags(cell: Mapping[str, Any]) -> list[str]:
    """The tags of a cell."""
    return list(cell["metadata"].get("tags", ()))


def function_name(cell: Mapping[str, Any], where: str = "a cell tagged `exercise`") -> str:
    """The one function that an exercise cell defines."""
    try:
        body = ast.parse(cell["source"]).body
    except SyntaxError as error:
        raise LabError(f"{where} is not Python: {error}") from error
    names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    if len(names) != 1:
        raise LabError(f"{where} holds {len(names)} functions ({', '.join(names)}): it holds exactly one")
    return names[0]


def build(
    lab: Lab,
    *,
    solution: bool,
    replace: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A copy of the lab's notebook, without outputs.

    Parameters
    ----------
    lab : Lab
        Its `lab.ipynb` is read.
    solution : bool
        Whether the solutions stay (their markers go), or each becomes ``raise NotImplementedError``.
    replace : mapping, optional
        The whole text of chosen exercise cells, by exercise.
    constants : mapping, optional
        Of a variant; what it leaves out has its default.

    Returns
    -------
    dict
        A notebook of format 4.5.
    """
    notebook = copy.deepcopy(read_notebook(lab.folder))
    values = {**lab.constants, **(constants or {})}
    replace = dict(replace or {})
    for cell in notebook["cells"]:
        code = cell["cell_type"] == "code"
        if code:
            cell.update(outputs=[], execution_count=None)
        cell["source"] = fill(cell["source"], values, code=code)
        if code and "exercise" in tags(cell):
            name = function_name(cell)
            text = without_markers(cell["source"]) if solution else without_solution(cell["source"], name)
            cell["source"] = replace.pop(name, text)
    if replace:
        raise KeyError(f"{lab.name} has no exercise {', '.join(replace)}")
    return notebook


def solved(
    lab: Lab, replace: Mapping[str, str] | None = None, *, constants: Mapping[str, Any] | None = None
) -> list[str]:
    """The code cells of the solved notebook; `replace` gives the text of chosen exercise cells."""
    return code_cells(build(lab, solution=True, replace=replace, constants=constants))


def unsolved(
    lab: Lab, replace: Mapping[str, str] | None = None, *, constants: Mapping[str, Any] | None = None
) -> list[str]:
    """The code cells of the student's copy, untouched but for `replace`."""
    return code_cells(build(lab, solution=False, replace=replace, constants=constants))


def code_cells(notebook: Mapping[str, Any]) -> list[str]:
    """The texts of the code cells."""
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def exercise_cells(notebook: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the exercise cells, by exercise."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "exercise" in tags(cell)]
    return {function_name(cell): cell["source"] for cell in cells}


def without_solution(text: str, name: str) -> str:
    """The text of a cell with each solution region replaced by ``raise NotImplementedError``.

    Examples
    --------
    >>> print(without_solution("def f(x):\\n    ### BEGIN SOLUTION\\n    return x\\n    ### END SOLUTION", "f"))
    def f(x):
        raise NotImplementedError("write f")
    """
    lines, _ = regions(text)
    return "\n".join(
        f'{line[: len(line) - len(line.lstrip())]}raise NotImplementedError("write {name}")'
        if line.strip() == BEGIN
        else line
        for line in lines
    )


def without_markers(text: str) -> str:
    """The text of a cell with its solution, without the markers."""
    return "\n".join(line for line in text.split("\n") if line.strip() not in (BEGIN, END))


def solution_lines(lab: Lab) -> list[str]:
    """All lines inside solution regions: what must not occur in a student's copy."""
    cells = [cell["source"] for cell in read_notebook(lab.folder)["cells"] if cell["cell_type"] == "code"]
    return [line for text in cells for line in regions(text)[1]]


def shown_lines(lab: Lab) -> set[str]:
    """The lines of code that the author shows to students, without their spaces: all but solutions."""
    cells = [cell["source"] for cell in read_notebook(lab.folder)["cells"] if cell["cell_type"] == "code"]
    return {"".join(line.split()) for text in cells for line in regions(text)[0]}


def regions(text: str) -> tuple[list[str], list[str]]:
    """The lines outside (with BEGIN standing for its region) and the lines inside of solution regions."""
    outside, inside, open_region = [], [], False
    for line in text.split("\n"):
        if line.strip() in (BEGIN, END):
            if (line.strip() == BEGIN) == open_region:
                raise LabError(f"{line.strip()} comes twice in the cell that starts {text[:40]!r}")
            open_region = not open_region
            if open_region:
                outside.append(line)
        else:
            (inside if open_region else outside).append(line)
    if open_region:
        raise LabError(f"{END} is missing in the cell that starts {text[:40]!r}")
    return outside, inside


def fill(text: str, constants: Mapping[str, Any], *, code: bool) -> str:
    """Put a variant's constants into the text of one cell.

    Examples
    --------
    >>> fill("BITS = 4  # {{bits}}", {"bits": 3}, code=True)
    'BITS = 3'
    >>> fill("Use {{bits}} bits.", {"bits": 3}, code=False)
    'Use 3 bits.'
    """

    def line_with(line: str) -> str:
        if code and (found := CONSTANT.match(line)):
            if found["name"] not in constants:
                raise LabError(f"{line.strip()!r}: CHOICES in checks.py has no {found['name']!r}")
            return f"{found['left']}{constants[found['name']]!r}"
        return MARK.sub(lambda mark: str(constants.get(mark[1], mark[0])), line)

    return "\n".join(map(line_with, text.split("\n")))
