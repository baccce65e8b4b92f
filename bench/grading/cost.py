"""What a tiny submission costs to grade: `dca grade` beside nbgrader's batch and `otter run`; and a class of 300.

    CPU seconds a submission = (CPU of a large class - CPU of a small one) / (difference of their sizes)
    CPU seconds to start     = CPU of the small class - its size * CPU seconds a submission

CPU is user + system of all processes of a command, start to end. The difference takes the start of a tool out of the
figure, which a large class would hide and a small one would not: no tool gains by the size of its class. Otter starts
anew for each student, so its start is a part of each submission. The same lab and students for all, a few repeats, and
their spread. One class of 300 gives the seconds on two workers and the peak memory of all processes. What this is
*not*: a claim about other labs. The tiny lab computes next to nothing, so that the figure is the grader's own.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.common import Goal, failure, goals_table, spread
from bench.grading.tools import dca_grade, nbgrader_autograde, otter_run
from bench.grading.work import student, tiny_lab
from dca_lab.grading import Lab

TITLE = "Grading: CPU seconds a submission, and a class of 300"
OURS, NBGRADER, OTTER, WHOLE = "dca grade", "nbgrader autograde", "otter run", "dca grade, a class"
TOOLS = {
    OTTER: (otter_run, 1, 3),
    NBGRADER: (nbgrader_autograde, 2, 8),
    OURS: (dca_grade, 12, 72),
}  # what runs it, and students of the small and the large class
CLASS, QUICK = 300, (1, 2)
STEP = 1 / 20  # otter's export rounds partial credit down to this share
Measure = Callable[[Lab, Path, int], dict[str, Any]]


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each tool, from `seeds` repeats, and one for the class of 300."""
    lab, rows = tiny_lab(), []
    for tool, (measure, *sizes) in TOOLS.items():
        small, large = QUICK if quick else sizes
        row: dict[str, Any] = {"tool": tool, "small": small, "students": large, "each": [], "start": []}
        try:
            for _ in range(1 if quick else seeds):
                few, many = (_measured(measure, lab, size) for size in (small, large))
                each = (many["cpu_seconds"] - few["cpu_seconds"]) / (large - small)
                row["each"].append(each)
                row["start"].append(few["cpu_seconds"] - small * each)
                row |= {key: many[key] for key in ("seconds", "peak_bytes", "totals")}
                tick(tool)
        except Exception as error:
            row["error"] = failure(error)
            tick(tool)
        rows.append(row)
    students = QUICK[1] if quick else CLASS
    row = {"tool": WHOLE, "students": students}
    try:
        row |= _measured(dca_grade, lab, students)
    except Exception as error:
        row["error"] = failure(error)
    rows.append(row)
    tick(WHOLE)
    reference, tolerance = row.get("totals", {}), STEP * lab.points
    for row in rows:
        totals = row.pop("totals", {})
        shared = [one for one in map(student, range(row["students"])) if one in reference]
        row["agree"] = sum(abs(totals.get(one, -1) - reference[one]) <= tolerance for one in shared)
        row["compared"] = len(shared)
    return rows


def _measured(measure: Measure, lab: Lab, students: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-grading-") as folder:
        return measure(lab, Path(folder), students)


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`, unless a tool fails."""
    return len(TOOLS) * (1 if quick else seeds) + 1


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """The goals of the grader, held against the rows: ratios of medians, with the extremes of the repeats.

    Examples
    --------
    >>> rows = [{"tool": OURS, "each": [0.1, 0.1]}, {"tool": OTTER, "each": [5.0, 4.0]},
    ...     {"tool": WHOLE, "students": 300, "seconds": 9, "peak_bytes": 10**9}]
    >>> [(goal.verdict, goal.figure) for goal in goals(rows)][1:]
    [('met', '0.0222 (0.0200 to 0.0250)'), ('met', '9.0'), ('met', '1.00')]
    """
    by_tool = {row["tool"]: row for row in rows}

    def over(peer: str) -> dict[str, Any]:
        mine, theirs = (by_tool.get(tool, {}) for tool in (OURS, peer))
        if any("error" in row or not row.get("each") for row in (mine, theirs)):
            return {"measured": None}
        mine, theirs = mine["each"], theirs["each"]
        return {
            "measured": statistics.median(mine) / statistics.median(theirs),
            "interval": (min(mine) / max(theirs), max(mine) / min(theirs)) if len(mine) > 1 else None,
        }

    whole = by_tool.get(WHOLE, {})
    many, peak = f"{whole.get('students')} submissions, two workers", whole.get("peak_bytes")
    return [
        Goal(f"CPU a submission over {NBGRADER}", relation="<=", limit=1 / 30, digits=4, **over(NBGRADER)),
        Goal(f"CPU a submission over {OTTER}", relation="<=", limit=1 / 40, digits=4, **over(OTTER)),
        Goal(f"seconds for {many}", whole.get("seconds"), "<=", 120, digits=1),
        Goal(f"peak GB for {many}", None if peak is None else peak / 1e9, "<=", 2, digits=2),
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """The rows and the goals."""
    table = []
    for row in rows:
        sizes = f"{row['small']} and {row['students']}" if "small" in row else row["students"]
        if "error" in row:
            table.append([row["tool"], sizes, row["error"]])
            continue
        each, start = (
            spread(row.get(key, ()), digits=3 if key == "each" else 1) for key in ("each", "start")
        )
        figures = [f"{row['seconds']:.1f}", f"{row['peak_bytes'] / 1e9:.2f}"]
        table.append([row["tool"], sizes, each, start, *figures, f"{row['agree']} of {row['compared']}"])
    head = [
        "tool",
        "students",
        "CPU s a submission",
        "CPU s to start",
        "seconds",
        "peak GB",
        "totals as ours",
    ]
    return f"{tabulate(table, head, disable_numparse=True)}\n\n{goals_table(goals(rows))}"
