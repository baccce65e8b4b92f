"""The class report: what an instructor wants to know before Monday's lecture.

How the scores spread and how each exercise went, which mistakes were made most and should be taught again, which files
to open by hand, and which pairs of submissions are worth a look. One page of HTML without scripts or requests, made
from the records (cleaned by `view`) and the students' cells. What this is *not*: a place for grades. Those are in
`grades.csv`, and the same records give both.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from dca_lab.files import replacing, require_folder
from dca_lab.grading import pictures
from dca_lab.grading.exercise import Lab
from dca_lab.grading.feedback import render, told
from dca_lab.grading.similarity import closest_functions, similar_pairs, tokens
from dca_lab.grading.view import OUTCOMES, Part, View, clean, page_name, view

PAGES = "feedback"  # the folder beside the report that holds the students' pages
MOST_PAIRS = 30  # shown with their code; more would be no list to look through
MOST_LINES = 40  # of a function that is shown
MOST_MISTAKES = 5  # shown of one exercise


def class_report(
    records: Iterable[Mapping[str, Any]],
    lab: Lab,
    folder: str | Path,
    sources: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write `folder`/report.html about a graded class.

    Parameters
    ----------
    records : iterable of records
        As `grade.grade_submission` gives them, in any order.
    lab : Lab
    folder : str or Path
        Where the report goes; the pages in its folder `feedback` are linked.
    sources : mapping of student to the sources of their code cells, optional
        Without it no submissions are compared with each other.

    Returns
    -------
    Path
    """
    path = require_folder(Path(folder) / "report.html")
    records = sorted(records, key=lambda record: str(record.get("student")))
    people = {str(record.get("student")): _person(record, path.parent) for record in records}
    shown = [_person(record, path.parent) for record in records]
    views = [one["view"] for one in shown]
    graded = [one for one in views if one.graded]
    scores = [one.score for one in views]
    out_of = sum(exercise.points for exercise in lab.exercises)
    rows = [_success(exercise.name, views) for exercise in lab.exercises]
    page = render(
        "report.html",
        title=clean(lab.title, limit=200, lines=False),
        shown=shown,
        out_of=out_of,
        mean=statistics.fmean(scores) if scores else 0.0,
        median=statistics.median(scores) if scores else 0.0,
        complete=sum(one.out_of > 0 and one.score >= one.out_of for one in views),
        success=rows,
        distribution=Markup(pictures.distribution(scores, out_of, height=pictures.tall(len(rows)))),  # noqa: S704  drawn from numbers
        success_picture=Markup(pictures.success(rows)),  # noqa: S704  drawn from the lab's names
        mistakes=_mistakes(lab, graded),
        graded=len(graded),
        by_hand=[{**one, "happened": happened} for one in shown if (happened := _happened(one["view"]))],
        pairs=None if sources is None else _pairs(sources, _handed_out(lab), people),
        most_pairs=MOST_PAIRS,
        levels=sorted(Counter(one.level for one in views).items()),
    )
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")
    return path


def _person(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the tables say of one student."""
    shown, name = view(record), page_name(str(record.get("student")))
    link = f"{PAGES}/{quote(name)}" if (folder / PAGES / name).is_file() else ""
    fields = {
        name: getattr(shown, name) for name in ("student", "score", "out_of", "level", "notes", "digest")
    }
    return {**fields, "view": shown, "link": link}


def _part(shown: View, name: str) -> Part | None:
    return next((part for part in shown.parts if part.name == name), None)


def _success(name: str, views: Sequence[View]) -> tuple[str, int, int, int]:
    parts = [_part(one, name) for one in views]
    full = sum(part is not None and part.full for part in parts)
    none = sum(part is None or part.points == 0 for part in parts)
    return name, full, len(parts) - full - none, none


def _mistakes(lab: Lab, views: Sequence[View]) -> list[dict[str, Any]]:
    """For each exercise that somebody missed its most frequent mistakes, the costliest exercise first."""
    headings, _ = told(lab.folder)
    messages = {(answer.exercise, answer.name): answer.message for answer in lab.wrong}
    found = []
    for exercise in lab.exercises:
        missed = [part for one in views if (part := _part(one, exercise.name)) and not part.full]
        counts = Counter((part.mistake, "" if part.mistake else part.outcome) for part in missed)
        said = {(part.mistake, "" if part.mistake else part.outcome): part.message for part in missed}
        mistakes = [
            {
                "label": _label(mistake, outcome),
                "message": messages.get((exercise.name, mistake), said[mistake, outcome] if mistake else ""),
                "count": count,
            }
            for (mistake, outcome), count in counts.most_common(MOST_MISTAKES)
        ]
        if missed:
            heading = headings.get(exercise.name, "")
            lost = sum(part.out_of - part.points for part in missed)
            entry = {"name": exercise.name, "heading": heading, "missed": len(missed), "lost": lost}
            found.append({**entry, "mistakes": mistakes})
    return sorted(found, key=lambda entry: -entry["lost"])


def _label(mistake: str, outcome: str) -> str:
    if mistake:
        text = mistake.replace("_", " ")
        return text[:1].upper() + text[1:]
    if outcome == "partial":
        return "Part of the points"
    if outcome == "wrong":
        return "A mistake that no known wrong answer makes"
    text = OUTCOMES.get(outcome, outcome)
    return text[:1].upper() + text[1:]


def _happened(shown: View) -> list[str]:
    """What stopped in a submission, in words; empty when everything ran to its end."""
    if not shown.graded:
        text = OUTCOMES.get(shown.outcome, shown.outcome)
        return [text[:1].upper() + text[1:] if shown.parts else "Nothing could be graded", *shown.notes]
    return [f"{part.name}: {OUTCOMES[part.outcome]}" for part in shown.stopped]


def _handed_out(lab: Lab) -> list[str]:
    """The code cells of the notebook that every student was given."""
    if not (lab.folder / "lab.ipynb").is_file():
        return []
    from dca_lab.grading.release import student_notebook

    return [cell.source for cell in student_notebook(lab, targets=False).cells if cell.cell_type == "code"]


def _pairs(
    sources: Mapping[str, Sequence[str]], skeleton: Sequence[str], people: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Pairs worth a look; the first of them with the functions that are most alike."""
    given = {line.strip() for cell in skeleton for line in cell.splitlines()}
    known = {name: cells for name, cells in sources.items() if name in people}
    pairs: list[dict[str, Any]] = []
    for a, b, share in similar_pairs(known, skeleton):
        pair = {"a": people[a], "b": people[b], "share": share, "excerpts": []}
        pair["identical"] = bool(people[a]["digest"]) and people[a]["digest"] == people[b]["digest"]
        if len(pairs) < MOST_PAIRS:
            left, right = (_lines(text, given) for text in closest_functions(known[a], known[b], skeleton))
            pair["excerpts"] = [
                (people[a], _marked(left, right, given)),
                (people[b], _marked(right, left, given)),
            ]
        pairs.append(pair)
    return pairs


def _lines(function: str, given: set[str]) -> list[str]:
    """The lines that a student wrote, and the first: not the docstring and the steps that everybody was given."""
    lines = clean(function, limit=6000).expandtabs(4).splitlines()
    own = [
        line for place, line in enumerate(lines) if line.strip() and (not place or line.strip() not in given)
    ]
    cut = [line if len(line) <= 120 else f"{line[:119]}…" for line in own[:MOST_LINES]]
    return [*cut, "…"] if len(own) > MOST_LINES else cut


def _marked(lines: Sequence[str], others: Sequence[str], given: set[str]) -> list[tuple[str, bool]]:
    """Each line with whether one of the others has the same tokens, and was not handed out."""
    there = {tuple(tokens(line.strip())) for line in others if line.strip() not in given}
    return [(line, bool(own := tuple(tokens(line.strip()))) and own in there) for line in lines]
