"""Whose file is it: what the layouts of course platforms tell about a path.

    alice.ipynb, alice.zip                            plain, or a folder for each student: alice/lab.ipynb
    submitted/<student>/<assignment>/<lab>.ipynb      nbgrader (the course's folder, or its folder `submitted`)
    submission_<n>/..., submission_metadata.yml       Gradescope's export; partners of a group get a grade each
    name_<user>_<file>_lab.ipynb                      Canvas, also with LATE; Moodle's name_<n>_assignsubmission_file/

Folders inside a student's own are the student's words: they decide about this student's files, never about others'.
What this is *not*: reading of students' files. Only names are looked at, and the metadata that the platform wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LAYOUTS = __doc__.split("\n\n")[1]
# user and file number come from Canvas. The name before them has no underscore; what the student chose comes after.
CANVAS = re.compile(r"([^_]+)_(?:LATE_)?(\d{1,12})_(\d{1,12})_(.+)")
MOODLE = re.compile(r"(.+)_(\d+)_assignsubmission_\w+")


# what lies beside `submitted` in a course of nbgrader, and is not made by students
COURSE = ("source", "gradebook.db", "nbgrader_config.py")


class SubmissionsError(ValueError):
    """The folder cannot be understood; the text says which layouts can."""


def may_be_work(name: str) -> bool:
    """Whether a file of this name was handed in: a notebook, a ZIP, or whatever else Canvas took."""
    return name.lower().endswith((".ipynb", ".zip")) or CANVAS.fullmatch(name) is not None


def root_of(folder: Path) -> Path:
    """Where the students' files begin: nbgrader keeps them in `submitted`, and Gradescope packs one folder around them.

    A student may have such a name, too: it counts only where the platform has left other signs, or nothing else is there.
    """
    shown = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    exports = [name for name in shown if re.fullmatch(r"assignment_.*_export", name)]
    for name in ("submitted", *exports):
        inner = folder / name
        if inner.is_dir() and not inner.is_symlink():
            course = name == "submitted" and any(sign in shown for sign in COURSE)
            if course or shown == [name]:
                return inner
    return folder


def meant(
    files: list[tuple[str, ...]], lab: str | None, nbgrader: bool
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Of one student's files those that belong to the lab; and the assignments among which nbgrader's folders leave the choice.

    Examples
    --------
    >>> meant([("ann", "cost", "a.ipynb"), ("ann", "pruning", "b.ipynb")], "cost", True)
    ([('ann', 'cost', 'a.ipynb')], [])
    """
    if any(len(parts) >= 3 and parts[1] == lab for parts in files):
        return [parts for parts in files if len(parts) < 3 or parts[1] == lab], []
    stamped = {parts[1] for parts in files if len(parts) == 3 and parts[2] == "timestamp.txt"}
    return (files, []) if len(stamped) < 2 or not nbgrader else ([], sorted(stamped))


def owners(parts: tuple[str, ...], people: dict, flat: bool) -> Iterator[tuple[str, tuple[str, ...], tuple]]:
    """Whose file this is: (student, other names, order among the student's files)."""
    name = parts[0]
    if len(parts) == 1:
        if match := CANVAS.fullmatch(name):
            who, user, file, _ = match.groups()
            yield f"{who}_{user}", (who, user), (int(file),)  # file numbers grow with every attempt
        elif may_be_work(name):
            yield name.rsplit(".", 1)[0], (), ()
    elif name in people:
        for student, aliases in people[name]:
            yield student, aliases, ()
    elif match := MOODLE.fullmatch(name):
        yield f"{match[1]}_{match[2]}", match.groups(), ()
    elif not flat or may_be_work(parts[-1]):  # beside plain files, a folder without work is no student's
        yield name, (), ()


def gradescope_people(root: Path) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Of Gradescope's export: the submitters of each folder, as (student, other names)."""
    import yaml

    path = root / "submission_metadata.yml"
    if not path.is_file():
        return {}
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        people = {}
        for folder, entry in tree.items():
            known = [
                [str(one.get(key) or "") for key in (":sid", ":email", ":name")]
                for one in entry[":submitters"]
            ]
            named = [[text for text in texts if text] for texts in known]
            people[str(folder)] = [(texts[0], tuple(texts)) for texts in named if texts]
    except (yaml.YAMLError, OSError, AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise SubmissionsError(f"{path} cannot be read ({type(error).__name__}): download it again") from None
    return people
