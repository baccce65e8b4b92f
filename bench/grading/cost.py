"""What a tiny submission costs to grade: `dca grade` beside nbgrader's batch and `otter run`; and a class of 300.

    CPU seconds a submission = (user + system of all processes, start to end) / submissions

The same lab, students and run. Each tool pays for its start: `dca grade` and nbgrader once for the class, otter once a
student. The class of `dca grade` is the largest, as a batch is what it is for; a row for a class as small as nbgrader's
shows what the start costs. The 300 also give the seconds on two workers and the peak memory of all processes. What
this is *not*: a claim about other labs. The tiny lab computes next to nothing, so that the figure is the grader's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.common import Goal, failure, goals_table
from bench.grading.tools import dca_grade, nbgrader_autograde, otter_run
from bench.grading.work import student, tiny_lab

TITLE = "Grading: CPU seconds a submission, and a class of 300"
OURS, SMALL, NBGRADER, OTTER = "dca grade", "dca grade, few", "nbgrader autograde", "otter run"
TOOLS = {
    OTTER: (otter_run, 4, 1),
    NBGRADER: (nbgrader_autograde, 12, 1),
    SMALL: (dca_grade, 12, 1),
    OURS: (dca_grade, 300, 3),
}  # what runs it, students, and how many with --quick
STEP = 1 / 20  # otter's export rounds partial credit down to this share


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each tool. `seeds` changes nothing: the class has one size, and each number is one student."""
    lab, rows = tiny_lab(), []
    for tool, (measure, many, few) in TOOLS.items():
        students = few if quick else many
        row: dict[str, Any] = {"tool": tool, "students": students}
        try:
            with tempfile.TemporaryDirectory(prefix="bench-grading-") as folder:
                row |= measure(lab, Path(folder), students)
            row["cpu_each"] = row["cpu_seconds"] / students
        except Exception as error:
            row["error"] = failure(error)
        rows.append(row)
        tick(tool)
    reference = rows[-1].get("totals", {})
    tolerance = STEP * lab.points
    for row in rows:
        totals = row.pop("totals", {})
        shared = [student(number) for number in range(row["students"]) if student(number) in reference]
        row["agree"] = sum(abs(totals.get(one, -1) - reference[one]) <= tolerance for one in shared)
        row["compared"] = len(shared)
    return rows


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return len(TOOLS)


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """The goals of the grader, held against the rows.

    Examples
    --------
    >>> rows = [{"tool": OURS, "students": 2, "cpu_each": 0.1, "seconds": 9, "peak_bytes": 10**9},
    ...     {"tool": OTTER, "cpu_each": 5.0}]
    >>> [goal.verdict for goal in goals(rows)]
    ['not measured', 'met', 'met', 'met']
    """
    by_tool = {row["tool"]: row for row in rows}

    def over(peer: str) -> float | None:
        mine, theirs = (by_tool.get(tool, {}).get("cpu_each") for tool in (OURS, peer))
        return None if mine is None or theirs is None else mine / theirs

    ours = by_tool.get(OURS, {})
    many = f"{ours.get('students')} submissions, two workers"
    peak = ours.get("peak_bytes")
    return [
        Goal(f"CPU a submission over {NBGRADER}", over(NBGRADER), "<=", 1 / 30, digits=4),
        Goal(f"CPU a submission over {OTTER}", over(OTTER), "<=", 1 / 40, digits=4),
        Goal(f"seconds for {many}", ours.get("seconds"), "<=", 120, digits=1),
        Goal(f"peak GB for {many}", None if peak is None else peak / 1e9, "<=", 2, digits=2),
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """The rows and the goals."""
    table = [
        [
            row["tool"],
            row["students"],
            *(
                [row["error"]]
                if "error" in row
                else [
                    f"{row['cpu_each']:.3f}",
                    f"{row['seconds'] / row['students']:.3f}",
                    f"{row['peak_bytes'] / 1e9:.2f}",
                    f"{row['agree']} of {row['compared']}",
                ]
            ),
        ]
        for row in rows
    ]
    head = ["tool", "students", "CPU s each", "seconds each", "peak GB", "totals as ours"]
    return f"{tabulate(table, head, disable_numparse=True)}\n\n{goals_table(goals(rows))}"
