"""Personal variants: which constants a student gets, and the class list.

    index of a constant = HMAC-SHA256(key, lab, student, constant) mod number of choices

So release and grading agree without a table, and who does not know the class's key cannot tell which constants
another student has. In each lab one exercise must use the constants, so that a copy of another variant's notebook loses
that exercise. What this is *not*: protection against copying. Who changes the constant as well loses nothing.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import re
import unicodedata
from pathlib import Path
from typing import Any

from dca_lab.grading.exercise import Lab

LONGEST = 80  # characters of a name: folders and columns are named after students
HEADINGS = {"name", "names", "students", "id", "sid", "login", "user", "username", "email", "e-mail", "mail"}
_NAME = re.compile(r"\w[\w .,@+'-]*")


def constants_of(lab: Lab, student: str, key: str) -> dict[str, Any]:
    """The constants of one student's variant.

    Parameters
    ----------
    lab : Lab
        Its `choices` are chosen from.
    student : str
        As in the roster; upper and lower case, and spaces around it, make no difference.
    key : str
        The class's secret. Another key gives other variants.

    Returns
    -------
    dict
        One of the choices for each constant.
    """
    if not key:
        raise ValueError("variants need a key: a secret text that you keep for grading")
    who = unicodedata.normalize("NFKC", student).strip().casefold()
    chosen = {}
    for name, values in lab.choices.items():
        parts = [part.encode() for part in (lab.name, who, name)]
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        digest = hmac.new(key.encode(), text, hashlib.sha256).digest()
        chosen[name] = values[int.from_bytes(digest, "big") % len(values)]
    return chosen


def read_roster(path: str | Path) -> list[str]:
    """The students of a class list in CSV: the column `student`, or the first one where no column has that name.

    The first line is a heading when one of its columns is `student`; else it is the first student. Empty lines are
    skipped.

    Raises
    ------
    ValueError
        For a name that cannot name a folder, a name that is there twice, or an empty list; the text has the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte-order mark in front
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    header = [cell.strip().casefold() for cell in rows[0][1]] if rows else []
    column = header.index("student") if "student" in header else 0
    if "student" not in header and HEADINGS & set(header):
        raise ValueError(f"{path}, line {rows[0][0]}: name the column of the students `student`")
    students: dict[str, int] = {}
    seen: dict[str, int] = {}
    for line, row in rows[1:] if "student" in header else rows:
        name = unicodedata.normalize("NFC", row[column].strip()) if column < len(row) else ""
        where = f"{path}, line {line}"
        if not name:
            raise ValueError(f"{where}: the student's name is missing")
        if len(name) > LONGEST or not _NAME.fullmatch(name) or name.endswith((".", " ")):
            raise ValueError(
                f"{where}: {name[:LONGEST]!r} cannot name a folder: letters, digits and . , @ + ' - _ only, "
                f"at most {LONGEST}"
            )
        if name.casefold() in seen:
            raise ValueError(f"{where}: {name} is already in line {seen[name.casefold()]}")
        seen[name.casefold()] = students[name] = line
    if not students:
        raise ValueError(f"{path} names no student")
    return list(students)
