"""Labs: what students solve, how they check themselves, and how strangers' notebooks are graded without trust.

A student's notebook imports one name, ``from dca_lab.grading import lab_checks``; a lab's `checks.py` and `wrong.py`
import a few more. Each is fetched from its file at the first use, so that the student's import costs nothing and
pulls in neither the sandbox nor the reports. What this is *not*: a technique of the course.

To be read in this order:

    a lab          exercise, answers, lab_folder, source; variants, personal; release, targets, checks_file, public
    a verdict      compare, plain, key, judge, messages
    the walls      sandbox/ (the grader's side), sandbox/inside/ (the student's), values, blob
    a submission   archives, notebook, layouts, student_ids, submissions; grade, job
    a class        records, batch, cluster; cli
    what is told   view, grades_csv, gradescope, feedback, pictures, similarity, report, outputs
    other tools    exports/
    the graders' own test   trials, selftest
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Answer": "answers",
    "Case": "exercise",
    "Exercise": "exercise",
    "Lab": "exercise",
    "LabError": "exercise",
    "PUBLIC_SEED": "exercise",
    "Score": "exercise",
    "difference": "compare",
    "generator": "exercise",
    "judge_exercise": "judge",
    "lab_checks": "public",
    "load_lab": "exercise",
    "right": "answers",
    "wrong": "answers",
}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"dca_lab.grading has no {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
