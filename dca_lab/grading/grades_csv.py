"""grades.csv: one row a submission, for spreadsheets and for the gradebook of a learning platform.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, and a student chooses their file's
name. So such a text gets an apostrophe in front, as the OWASP guide "CSV Injection" advises, and no text keeps a
semicolon or tab, which other languages' spreadsheets take for the end of a cell. Numbers are written by us and stay
numbers. What this is *not*: the record. It is made anew from the records whenever asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dca_lab.files import replacing, require_folder
from dca_lab.grading.exercise import Lab
from dca_lab.grading.view import clean, view

FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "＝",
    "＋",
    "－",
    "＠",
)  # the wide forms count in East Asian settings


def cell(text: Any, *, limit: int = 200) -> str:
    """A text that no spreadsheet takes for a formula, on one line.

    Examples
    --------
    >>> cell("=cmd()"), cell("ann"), cell("a;=1+1")
    ("'=cmd()", 'ann', 'a,=1+1')
    """
    text = clean(text, limit=limit, lines=False).replace(";", ",")
    return f"'{text}" if text.startswith(FORMULA) else text


def write_csv(records: Iterable[Mapping[str, Any]], lab: Lab, path: str | Path) -> Path:
    """Write the grades of a class: ``student, score, out_of``, a column an exercise, ``level, digest, platform_id, notes``.

    `platform_id` is what the platform calls the student, or the file's name: `student` was made safe from it.

    Parameters
    ----------
    records : iterable of records
        In any order; the rows are sorted by student, so that two runs can be compared line by line.
    lab : Lab
        Gives the exercises' order. An exercise that a record lacks counts 0.
    path : str or Path
        Written whole or not at all, in UTF-8.

    Returns
    -------
    Path
    """
    path = require_folder(path)
    names = [exercise.name for exercise in lab.exercises]
    rows = []
    for shown in map(view, records):
        gained = {part.name: part.points for part in shown.parts}
        rows.append(
            [
                cell(shown.student, limit=100),
                _number(shown.score),
                _number(shown.out_of),
                *(_number(gained.get(name, 0.0)) for name in names),
                cell(shown.level),
                cell(shown.digest),
                cell(shown.platform_id),
                cell(" / ".join(shown.notes), limit=500),
            ]
        )
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(["student", "score", "out_of", *names, "level", "digest", "platform_id", "notes"])
        writer.writerows(sorted(rows, key=lambda row: (row[0], row[-3])))
    return path


def _number(value: float) -> float | int:
    value = round(value, 4)
    return int(value) if value == int(value) else value
