"""`variants.json`: the instructor's key to a class's personal variants, written by the release and read by the grading.

    {"lab": "quantization", "key": "<secret>", "students": ["Ann", "Bo"]}

A student's constants follow from the key and the name in the roster (`variants.constants_of`). A second release into
the same folder keeps the key: those who come later join, and nobody's notebook changes. What this is *not*: for
students. Who has the key knows everybody's constants.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_lab.files import replacing
from dca_lab.grading.exercise import Lab
from dca_lab.grading.student_ids import in_roster
from dca_lab.grading.variants import constants_of

NAME = "variants.json"


class VariantsError(ValueError):
    """The file of the variants cannot be used; the text says which one is meant."""


@dataclass(frozen=True)
class Variants:
    """The variants of one lab for one class."""

    lab: Lab
    key: str
    students: tuple[str, ...]

    @classmethod
    def read(cls, path: str | Path, lab: Lab) -> Variants:
        """The variants in the file at `path` (or in the folder of the release), which must be those of `lab`."""
        path = Path(path)
        path = path / NAME if path.is_dir() else path
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            name, key, students = tree["lab"], tree["key"], tuple(tree["students"])
            if not (isinstance(key, str) and key and all(isinstance(student, str) for student in students)):
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError):
            raise VariantsError(
                f"{path} is not the {NAME} that `dca lab release {lab.name} --out DIR --variants ROSTER` wrote into DIR"
            ) from None
        if name != lab.name:
            raise VariantsError(f"{path} holds the variants of the lab {name}, not of {lab.name}")
        return cls(lab, key, students)

    @classmethod
    def made(cls, folder: Path, lab: Lab, students: Sequence[str]) -> Variants:
        """Variants for `students`, with the key of an earlier release in `folder` if there was one; and written."""
        path = folder / NAME
        key, earlier = secrets.token_hex(16), ()
        if path.exists():
            before = cls.read(path, lab)
            key, earlier = before.key, before.students
        variants = cls(lab, key, tuple(dict.fromkeys((*earlier, *students))))
        with replacing(path) as beside:
            beside.touch(mode=0o600)
            tree = {"lab": lab.name, "key": key, "students": variants.students}
            beside.write_text(json.dumps(tree, indent=1), encoding="utf-8")
        return variants

    def of(self, names: Iterable[str]) -> dict[str, Any] | None:
        """The constants of the student whom a platform calls by these `names`; None for nobody in the roster."""
        student = in_roster(names, self.students)
        return None if student is None else constants_of(self.lab, student, self.key)
