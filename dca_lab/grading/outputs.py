"""What people get from a graded class, written anew from the records whenever a run ends.

    grades.csv    gradescope/<student>/results.json    feedback/<student>.html    report.html

Files of students whose submission is gone are removed. One page that cannot be written costs that page: the others
are written, and the caller is told. What this is *not*: the record of the grades, which is in `records/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dca_lab.files import replacing
from dca_lab.grading.exercise import Lab
from dca_lab.grading.feedback import feedback_page
from dca_lab.grading.grades_csv import write_csv
from dca_lab.grading.gradescope import gradescope_result
from dca_lab.grading.records import Record
from dca_lab.grading.report import class_report
from dca_lab.grading.view import page_name


def write_outputs(
    lab: Lab, records: Sequence[Record], out: Path, sources: Mapping[str, Sequence[str]]
) -> list[str]:
    """Write everything for the graded class.

    Parameters
    ----------
    lab : Lab
    records : sequence of records
    out : Path
        The folder of the results.
    sources : mapping
        Each student's code cells, in which the class report looks for copies.

    Returns
    -------
    list of str
        What could not be written, and why.
    """
    failed: list[str] = []

    def attempt(name: str, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:  # a page is not worth the other pages
            failed.append(f"{name} could not be written: {type(error).__name__}: {error}")

    attempt("grades.csv", lambda: write_csv(records, lab, out / "grades.csv"))
    feedback, gradescope = out / "feedback", out / "gradescope"
    pages = {page_name(record["student"]): record for record in records}
    for page, record in pages.items():
        student = record["student"]
        attempt(f"feedback/{page}", lambda r=record, p=page: _write(feedback / p, feedback_page(r, lab)))
        attempt(f"gradescope/{student}/results.json", lambda r=record: _write_result(gradescope, r))
    attempt("report.html", lambda: class_report(records, lab, out, sources))
    for path in feedback.glob("*.html"):
        if path.name not in pages:
            path.unlink()
    students = {record["student"] for record in records}
    for path in gradescope.glob("*/results.json"):
        if path.parent.name not in students:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    return failed


def _write_result(folder: Path, record: Record) -> None:
    text = json.dumps(gradescope_result(record), indent=1, allow_nan=False)
    _write(folder / record["student"] / "results.json", text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
