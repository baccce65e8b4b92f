"""One submission graded: a public phase for the feedback page, a hidden phase for the points.

Each phase is a fork of the sandbox of its own. The student's process only ever answers calls; inputs, oracles and
points stay here, and what comes back is a value to be judged. The hidden cases are drawn from the run's secret seed.

    public   PUBLIC_SEED   the cases that the notebook shows; messages may show values
    hidden   secret seed   carries the points; messages never show an input or a value

The record is a plain dict for JSON. Of an error of the grader it keeps the class and the place only, since the text
of an exception may hold a hidden value. What this is *not*: a judge (`judge`), or a class (`batch`).
"""

from __future__ import annotations

import difflib
import math
import re
import time
import traceback
from collections.abc import Sequence
from typing import Any

from dca_lab.grading.exercise import MOST_TIMEOUTS, Case, Exercise, Lab, Score, generator, public_cases
from dca_lab.grading.judge import judge_exercise
from dca_lab.grading.notebook import Cells
from dca_lab.grading.sandbox import CellError, Sandbox, SandboxError, Student
from dca_lab.grading.values import Reply

Record = dict[str, Any]
GRADER_ERROR = "grader error"
OURS = (
    "This exercise could not be graded. The mistake is the grader's, not yours; your instructor sees it, too."
)
_LOST = ("missing", "crashed", "timeout", "refused")


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
        The run's secret: the hidden cases follow from it.
    constants : dict, optional
        Of the student's personal variant; by default the lab's first choices.
    student, digest : str
        Copied into the record.

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
        lost = {one.name: _missing(one.name, names, errors, cells) for one in lab.exercises}
        public = {one.name: _exercise(lab, one, fork, None, constants, lost) for one in lab.exercises}
        skipped = fork.skipped  # cells that ended the process need not do so again
    with sandbox.open(cells.sources, skip=skipped) as fork:
        hidden = {one.name: _exercise(lab, one, fork, seed, constants, lost) for one in lab.exercises}
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
    record["notes"] = [*cells.notes, *_doubts(lab, cells, names)]
    record["errors"] = [
        {
            "cell": error.cell - 1,
            "line": error.line,
            "exception": error.exception[:80],
            "text": error.text[:500],
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
    lab: Lab, exercise: Exercise, fork: Student, seed: str | None, constants: dict, lost: dict[str, str]
) -> tuple[Score, str]:
    """What one exercise earned in one phase (`seed` None: the public one), and what became of it."""
    try:
        if seed is None:
            cases = public_cases(exercise, constants)
        else:
            cases = exercise.draw(generator(seed, "hidden", exercise.name), constants)
        replies = _replies(fork, exercise, cases)
        if replies[0].kind == "missing":
            return Score(0.0, lost[exercise.name]), "missing"
        wrong = lab.wrong_answers(exercise.name)
        score = judge_exercise(exercise, cases, replies, wrong, hidden=seed is not None)
        if not 0 <= score.fraction <= 1:
            raise ValueError(f"the judge of {exercise.name} gave the fraction {score.fraction}")
    except SandboxError:
        raise  # of this machine, not of this exercise: `batch` tries again
    except Exception as error:
        return Score(0.0, f"{OURS} ({describe(error)})"), GRADER_ERROR
    return score, _outcome(score, replies)


def _replies(fork: Student, exercise: Exercise, cases: list[Case]) -> list[Reply]:
    """One reply a case. A missing function, a dead child or the third timeout ends it: the rest count the same."""
    replies: list[Reply] = []
    for case in cases:
        reply = fork.call(exercise.name, *case.args, seconds=exercise.seconds)
        replies.append(reply)
        timeouts = sum(one.kind == "timeout" for one in replies)
        if reply.kind in ("missing", "crashed") or timeouts >= MOST_TIMEOUTS:
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


def _missing(name: str, names: list[str], errors: list[CellError], cells: Cells) -> str:
    """Why there is no such function: its cell stopped, it has another name, or it is not there."""
    text = f"There is no function `{name}`"
    for error in errors:
        source = cells.sources[error.cell - 1] if 0 < error.cell <= len(cells.sources) else ""
        # not \s: over a million empty lines it would take hours
        if re.search(rf"^[ \t]*def[ \t]+{name}\b", source, re.MULTILINE):
            line = f" in line {error.line}" if error.line else ""
            return f"{text}: code cell {error.cell}, which defines it, stopped with {error.exception[:80]}{line}."
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"{text}; the notebook defines `{close[0]}`. Give it the name of the exercise."
    return f"{text}: was its cell deleted or renamed?"


def _doubts(lab: Lab, cells: Cells, names: list[str]) -> list[str]:
    """Notes for a notebook that seems to belong to another lab."""
    if cells.lab is not None and cells.lab != lab.name:
        return [f"the notebook says that it belongs to the lab {cells.lab}; it was graded as {lab.name}"]
    if not {exercise.name for exercise in lab.exercises} & set(names):
        return [f"the notebook defines no function of the lab {lab.name}: is it the notebook of another lab?"]
    return []


def describe(error: BaseException) -> str:
    """Class and place of an exception, without its text, which may hold a hidden value."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + where
