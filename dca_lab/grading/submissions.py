"""Who handed in what: the layouts that course platforms download, one submission a student.

A student whose file cannot be used still appears, with the problem in words, and is graded with zero points. Students
choose names: `student_ids` makes them safe. What this is *not*: reading (`archives`, `notebook`). Links are never
followed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dca_lab.grading.archives import is_work, notebooks, read_file, read_member
from dca_lab.grading.layouts import (
    CANVAS,
    LAYOUTS,
    SubmissionsError,
    gradescope_people,
    may_be_work,
    meant,
    owners,
    root_of,
)
from dca_lab.grading.notebook import Unreadable
from dca_lab.grading.student_ids import safe_ids

_COPY = re.compile(r"(-\d{1,6}|\s?\(\d{1,6}\)|[-_ ]copy)$", re.IGNORECASE)
LONGEST_STEM = 200  # characters of a file's name that are looked at; a name inside a ZIP may have 65,535


@dataclass(frozen=True)
class Submission:
    """One student's notebook: `member` names it inside the ZIP `path`; a `problem` says why there is none."""

    student: str
    path: Path
    digest: str = ""
    member: str = ""
    aliases: tuple[str, ...] = ()  # what else the platform calls the student: name, number, address
    notes: tuple[str, ...] = ()
    problem: str = ""

    def read(self) -> bytes:
        """The notebook's bytes; Unreadable with the problem."""
        if self.problem:
            raise Unreadable(self.problem)
        return read_member(self.path, self.member) if self.member else read_file(self.path)


@dataclass
class _Place:
    """What was found for one student: usable files as (path, member, order), and why others are not."""

    aliases: tuple[str, ...] = ()
    found: dict[tuple[str, ...], tuple] = field(default_factory=dict)  # parts of the path -> order
    files: list[tuple[Path, str, tuple]] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)


def find_submissions(folder: str | Path, *, lab: str | None = None) -> list[Submission]:
    """The submissions in a folder, sorted by student.

    Parameters
    ----------
    folder : str or Path
        In one of the layouts of `layouts`.
    lab : str, optional
        The lab's name: chooses nbgrader's assignment, and the notebook where a student handed in several.

    Raises
    ------
    SubmissionsError
        When there is no such folder, or no notebook in it.
    """
    root = Path(folder)
    if not root.is_dir():
        is_zip = root.suffix.lower() == ".zip"
        hint = f": unpack it first (python -m zipfile -e {root.name} submissions)" if is_zip else ""
        raise SubmissionsError(f"{root} is not a folder{hint}")
    root = root_of(root)
    places: dict[str, _Place] = {}
    people = gradescope_people(root)
    files = sorted(_walk(root))
    flat = any(len(parts) == 1 and may_be_work(parts[0]) for parts in files)
    for parts in files:
        for student, aliases, order in owners(parts, people, flat):
            places.setdefault(student, _Place(aliases)).found[parts] = order
    if not places:
        raise SubmissionsError(f"no notebook was found in {root}. These layouts are understood:\n\n{LAYOUTS}")
    for name in sorted({*people, *(path.name for path in root.iterdir() if path.is_dir())}):
        if is_work((name,)):  # a student's folder without a file is a student, too
            for student, aliases, _ in owners((name, ""), people, flat):
                places.setdefault(student, _Place(aliases))
    _choose(places, root, lab)
    ids = safe_ids(list(places))
    return sorted(
        (_submission(ids[name], name, place, lab) for name, place in places.items()), key=lambda s: s.student
    )


def _choose(places: dict[str, _Place], root: Path, lab: str | None) -> None:
    """Look at each student's files by themselves: whatever one of them holds, the others' stay as they are."""
    unclear: dict[str, list[str]] = {}
    for student, place in places.items():
        files, several = meant(list(place.found), lab, root.name == "submitted")
        for parts in files:
            _add(place, root, parts, place.found[parts])
        if several:
            unclear[student] = several
            text = f"the folders {', '.join(several)[:200]} were found, and none is called {lab}"
            place.problems.append((root, text))
        elif not place.files and not place.problems:
            place.problems.append((root, "nothing was handed in that can be read: hand in the .ipynb file"))
    if len(unclear) == len(places):  # of the whole course, so it is not a student's doing
        found = ", ".join(sorted({name for names in unclear.values() for name in names}))
        raise SubmissionsError(
            f"the assignments are {found}: name the one to grade {lab}, or copy it elsewhere"
        )


def _walk(root: Path) -> Iterator[tuple[str, ...]]:
    for here, folders, files in os.walk(root, followlinks=False):
        folders[:] = [name for name in folders if is_work((name,))]
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in [*files, *links]:
            if is_work((name,)):
                yield (*Path(here).relative_to(root).parts, name)


def _add(place: _Place, root: Path, parts: tuple[str, ...], order: tuple) -> None:
    path = root.joinpath(*parts)
    kind = path.suffix.lower()
    try:
        if path.is_symlink():
            raise Unreadable("the file is a link, and links are not followed: hand in the notebook itself")
        if kind == ".zip":
            place.files += [(path, name, order or _when(path)) for name in notebooks(path)]
        elif kind == ".ipynb":
            place.files.append((path, "", order or _when(path)))
        else:
            raise Unreadable("what was handed in is not a notebook: hand in the .ipynb file")
    except (Unreadable, OSError) as error:
        place.problems.append((path, _why(error)))


def _when(path: Path) -> tuple:
    """nbgrader's time stamp beside the file, else the file's own."""
    try:
        text = read_file(path.with_name("timestamp.txt"))[:19].decode()  # it may be a link or a pipe, too
        return (datetime.fromisoformat(text).timestamp(),)
    except (OverflowError, ValueError):
        return (path.lstat().st_mtime,)


def _submission(student: str, name: str, place: _Place, lab: str | None) -> Submission:
    def fits(file: tuple[Path, str, tuple]) -> tuple:
        stem = Path(file[1] or file[0].name).stem[-LONGEST_STEM:]
        match = CANVAS.fullmatch(stem)
        return _COPY.sub("", match[4] if match else stem) == lab, file[2], file[0].name, file[1]

    aliases = tuple(dict.fromkeys((name, *place.aliases)))
    if not place.files:
        path, problem = min(place.problems, key=lambda found: not may_be_work(found[0].name))
        return Submission(student, path, _digest(problem.encode()), "", aliases, (), problem)
    *others, (path, member, _) = sorted(place.files, key=fits)
    notes = ()
    if others:
        listed = ", ".join((inner or file.name)[:80] for file, inner, _ in others[-5:])
        notes = (f"of {len(place.files)} notebooks, {(member or path.name)[:80]} was graded; not {listed}",)
    chosen = Submission(student, path, "", member, aliases, notes)
    try:
        return Submission(student, path, _digest(chosen.read()), member, aliases, notes)
    except (Unreadable, OSError) as error:
        problem = _why(error)
        return Submission(student, path, _digest(problem.encode()), member, aliases, notes, problem)


def _why(error: Exception) -> str:
    """The system's own words would name folders of the instructor."""
    return (
        str(error) if isinstance(error, Unreadable) else f"the file cannot be read ({type(error).__name__})"
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
