"""The graders as commands, each on a class of its own size: what they cost and which totals they give.

    dca grade             one command for the class, two workers
    nbgrader autograde    one command for the class; generate and hand-in are not counted
    otter run             one command for each student

All take the export of the same lab, made by `dca lab release`. What this is *not*: their best setup. Neither has a way
to share one Python process between students; otter's containers would cost more.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.grading.counted import counted
from bench.grading.work import student, write_class
from dca_lab.grading import Lab
from dca_lab.grading.release import release

DCA = [sys.executable, "-c", "from dca_lab.cli import main; main()"]
QUIET = {"OMP_NUM_THREADS": "1", "DCA_QUIET": "1"}


def dca_grade(lab: Lab, folder: Path, students: int) -> dict[str, Any]:
    """The figures of `dca grade`, with the totals by student."""
    work = write_class(release(lab, folder / "handout", targets=False), lab, folder / "class", students)
    figures = counted(
        [*DCA, "grade", lab.folder, work, "--out", folder / "results", "--workers", "2"],
        folder,
        environment=QUIET,
    )
    with open(folder / "results" / "grades.csv", encoding="utf-8", newline="") as file:
        totals = {row["student"]: float(row["score"]) for row in csv.DictReader(file)}
    return {**figures, "totals": totals}


def nbgrader_autograde(lab: Lab, folder: Path, students: int) -> dict[str, Any]:
    """The figures of `nbgrader autograde`."""
    course = folder / "course"
    release(lab, course, format="nbgrader", targets=False)
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )  # it calls `alembic`
    environment = {**QUIET, "PATH": path}
    nbgrader = [sys.executable, "-m", "nbgrader"]
    generate = [*nbgrader, "generate_assignment", lab.name]
    subprocess.run(generate, cwd=course, env={**os.environ, **environment}, check=True, capture_output=True)
    released = course / "release" / lab.name / f"{lab.name}.ipynb"
    write_class(released, lab, course / "submitted", students, f"{{student}}/{lab.name}/{lab.name}.ipynb")
    figures = counted([*nbgrader, "autograde", lab.name, "--create"], course, environment=environment)
    return {**figures, "totals": _gradebook(course / "gradebook.db")}


def otter_run(lab: Lab, folder: Path, students: int) -> dict[str, Any]:
    """The figures of `otter run`, added up over the students."""
    notebook = release(lab, folder / "release", format="otter", targets=False)
    work = write_class(notebook, lab, folder / "class", students)
    line = [
        sys.executable,
        "-m",
        "otter",
        "run",
        "--no-logo",
        "-a",
        folder / "release/autograder/autograder.zip",
    ]
    totals, figures = {}, []
    for number in range(students):
        out = folder / "out" / student(number)
        out.mkdir(parents=True)
        figures.append(counted([*line, "-o", out, work / f"{out.name}.ipynb"], folder, environment=QUIET))
        tests = json.loads((out / "results.json").read_text(encoding="utf-8"))["tests"]
        totals[out.name] = sum(test.get("score", 0) for test in tests)
    added = {key: sum(one[key] for one in figures) for key in ("cpu_seconds", "seconds")}
    return {**added, "peak_bytes": max(one["peak_bytes"] for one in figures), "totals": totals}


def _gradebook(path: Path) -> dict[str, float]:
    """The totals by student in nbgrader's database."""
    query = """
        SELECT submitted_assignment.student_id, SUM(COALESCE(grade.manual_score, grade.auto_score, 0))
        FROM grade JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id
        JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id
        GROUP BY submitted_assignment.student_id
    """
    with sqlite3.connect(path) as database:
        return dict(database.execute(query).fetchall())
