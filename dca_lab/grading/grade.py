"""One submission graded: a public phase for the feedback page, a hidden phase for the points.

Each phase is a fork of the sandbox of its own. The student's process only ever answers calls; inputs, oracles and
points stay here, and what comes back is a value to be judged.

    public   `public_cases`   those that the notebook shows; messages may show values
    hidden   `hidden_cases`   of this file in this run; carry the points; messages never show an input or a value

The record is a plain dict for JSON. Of an error of the grader it keeps the class and the place only, since the text
of an exception may hold a hidden value. What this is *not*: a judge (`judge`), or a class (`batch`).
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Sequence
from typing import Any

from dca_lab.grading.exercise import MOST_TIMEOUTS, Case, Exercise, Lab, Score, hidden_cases, public_cases
from dca_lab.grading.explained import carried, doubled, doubts, missing
from dca_lab.grading.judge import judge_exercise
from dca_lab.grading.messages import NOBODY_TYPES
from dca_lab.grading.notebook import Cells
from dca_lab.grading.sandbox import Sandbox, SandboxError, Student
from dca_lab.grading.values import Reply

Record = dict[str, Any]
GRADER_ERROR = "grader error"
OURS = (
    "This exercise could not be graded. The mistake is the grader's, not yours; your instructor sees it, too."
)
_LOST = ("missing", "crashed", "timeout", "exhausted", "refused")
_FINAL = ("missing", "crashed", "exhausted")


def grade_submission(
    lab: Lab,
    cells: Cells | Sequence[str],
    sandbox: Sandbox,
    *,
    seed: str,
    constants: dict[str, Any] | None = None,
    student: str = "",
    digest: str = "",
) -> Record:
    """Grade the cells of one notebook.

    Parameters
    ----------
    lab : Lab
    cells : Cells or list of str
        As `notebook.read_cells` gives them.
    sandbox : Sandbox
        Two forks of it are used, one after the other.
    seed : str
        The run's secret: the hidden cases follow from it and from `digest`.
    constants : dict, optional
        Of the student's personal variant; by default the lab's first choices.
    student, digest : str
        Who handed it in, and the sha256 of the file; both are copied into the record.

    Returns
    -------
    dict
        ``student, digest, lab, lab_digest, level, outcome, score, out_of, exercises, notes, errors, constants,
        seconds``. `outcome` is "graded", or "grader error" when an exercise could not be judged.
    """
    started = time.perf_counter()
    if not isinstance(cells, Cells):
        cells = Cells(list(cells))
    constants = lab.constants if constants is None else constants
    record = blank_record(lab, level=sandbox.level, constants=constants, student=student, digest=digest)
    with sandbox.open(cells.sources) as fork:
        # taken before any call, and for both phases: a function that has seen hidden inputs could invent names
        errors, names = list(fork.errors), [name for name in fork.names if len(name) <= 100][:500]
        lost = {one.name: missing(one.name, names, errors, cells) for one in lab.exercises}
        public = {one.name: _exercise(lab, one, fork, None, constants, lost) for one in lab.exercises}
        skipped = fork.skipped  # cells that ended the process need not do so again
    secret = (seed, digest)
    with sandbox.open(cells.sources, skip=skipped) as fork:
        hidden = {one.name: _exercise(lab, one, fork, secret, constants, lost) for one in lab.exercises}
    for exercise in lab.exercises:
        (score, outcome), (seen, _) = hidden[exercise.name], public[exercise.name]
        record["exercises"][exercise.name] |= {
            "points": exercise.points * score.fraction,
            "message": score.message,
            "mistake": score.mistake,
            "outcome": outcome,
            "public": {"passed": seen.fraction >= 1, "message": seen.message, "mistake": seen.mistake},
        }
        if GRADER_ERROR in (outcome, public[exercise.name][1]):
            record["outcome"] = GRADER_ERROR
    record["score"] = math.fsum(entry["points"] for entry in record["exercises"].values())
    record["notes"] = [
        *cells.notes,
        *doubts(lab, cells, names, constants),
        *doubled(record, cells),
        *carried(cells),
    ]
    record["errors"] = [
        {
            "cell": error.cell - 1,
            "line": error.line,
            "exception": error.exception[:80],
            "text": f"{error.text[:500]}{f' ({NOBODY_TYPES})' if error.exception == 'EOFError' else ''}",
        }
        for error in errors[:20]
    ]
    record["seconds"] = round(time.perf_counter() - started, 3)
    return record


def blank_record(
    lab: Lab, *, level: str, constants: dict[str, Any], student: str, digest: str, outcome="graded", reason=""
) -> Record:
    """A record without points; with an `outcome` and a `reason`, that of a submission that could not be graded."""
    exercises = {
        one.name: {
            "points": 0.0,
            "out_of": one.points,
            "message": reason,
            "mistake": None,
            "outcome": outcome,
            "public": {},
        }
        for one in lab.exercises
    }
    return {
        "student": student,
        "digest": digest,
        "lab": lab.name,
        "lab_digest": lab.digest,
        "level": level,
        "outcome": outcome,
        "score": 0.0,
        "out_of": lab.points,
        "exercises": exercises,
        "notes": [reason] if reason else [],
        "errors": [],
        "constants": dict(constants),
        "seconds": 0.0,
    }


def _exercise(
    lab: Lab,
    exercise: Exercise,
    fork: Student,
    secret: tuple[str, str] | None,
    constants: dict,
    lost: dict[str, str],
) -> tuple[Score, str]:
    """What one exercise earned in one phase (`secret` None: the public one), and what became of it."""
    try:
        if secret is None:
            cases = public_cases(exercise, constants)
        else:
            cases = hidden_cases(exercise, constants, *secret)
        replies = _replies(fork, exercise, cases)
        if replies[0].kind == "missing":
            return Score(0.0, lost[exercise.name]), "missing"
        wrong = lab.wrong_answers(exercise.name)
        score = judge_exercise(exercise, cases, replies, wrong, hidden=secret is not None)
        if not 0 <= score.fraction <= 1:
            raise ValueError(f"the judge of {exercise.name} gave the fraction {score.fraction}")
    except SandboxError:
        raise  # of this machine, not of this exercise: `batch` tries again
    except Exception as error:
        return Score(0.0, f"{OURS} ({describe(error)})"), GRADER_ERROR
    return score, _outcome(score, replies)


def _replies(fork: Student, exercise: Exercise, cases: list[Case]) -> list[Reply]:
    """One reply a case. What is dear to try again ends it, and the rest count the same.

    That is a missing function, a dead child, the third timeout, and an answer that made the grader end the child.
    """
    replies: list[Reply] = []
    for case in cases:
        reply = fork.call(exercise.name, *case.args, seconds=exercise.seconds)
        replies.append(reply)
        timeouts = sum(one.kind == "timeout" for one in replies)
        if reply.kind in _FINAL or timeouts >= MOST_TIMEOUTS or (reply.ended and reply.kind == "refused"):
            break
    return replies + [Reply(replies[-1].kind)] * (len(cases) - len(replies))


def _outcome(score: Score, replies: list[Reply]) -> str:
    if score.fraction > 0:
        return "right" if score.fraction >= 1 else "partial"
    kinds = {reply.kind for reply in replies}
    for kind in _LOST:
        if kind in kinds:
            return kind
    if kinds == {"raised"}:
        unwritten = all(reply.exception == "NotImplementedError" for reply in replies)
        return "not written yet" if unwritten else "raised"
    return "wrong"


def describe(error: BaseException) -> str:
    """Class and place of an exception, without its text, which may hold a hidden value."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + where
