"""``dca lab test``: a lab's grader is graded, with notebooks whose grades are known beforehand.

    the solved notebook, several seeds and variants          all points, and all visible checks pass
    the solved notebook with another right answer            all points
    the solved notebook with one wrong answer                all points but those of that exercise
    with a cell that is broken in a way any student can      the same: a syntax error, `return None`, NaN, ...
    the untouched student's copy                             nothing

All go through the real sandbox and the real grading. Besides: at least five wrong answers for each exercise, cases that
follow from their seed alone and differ between seeds, judges that survive nonsense, and a student's copy without answers.
What this is *not*: a proof that a lab is good. It shows that its points mean what its author thinks.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dca_lab import progress
from dca_lab.grading.exercise import Case, Exercise, Lab, LabError, Score, generator
from dca_lab.grading.key import replied
from dca_lab.grading.plain import show
from dca_lab.grading.trials import Trial, trials
from dca_lab.grading.values import encode

if TYPE_CHECKING:
    from dca_lab.grading.sandbox import Sandbox

FEWEST_WRONG = 5
NONSENSE = (None, float("nan"), "text", [], {}, [[1.0], [2.0, 3.0]], {"weights": None}, -1, 10**30)
UNFIT = ([10**400, 0.5], [float("nan"), float("inf")])  # in place of an array inside a well-formed answer


@dataclass(frozen=True)
class Finding:
    """One line of the self-test.

    Attributes
    ----------
    status : str
        ``ok``; ``note``, to be read by the author; ``wrong``, the lab must not be used like this.
    check : str
        What was tried.
    text : str
        What happened instead; empty for ``ok``.
    """

    status: str
    check: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.status:5}  {self.check}{': ' if self.text else ''}{self.text}"


def selftest(
    lab: Lab,
    *,
    sandbox: Sandbox,
    runs: int = 3,
    seed: str = "selftest",
    grade: Callable[..., dict[str, Any]] | None = None,
    show_progress: bool = True,
) -> list[Finding]:
    """Try a lab's grader; the lab is fit for use when no finding is ``wrong``.

    Parameters
    ----------
    lab : Lab
    sandbox : Sandbox
        In which the notebooks are run.
    runs : int
        Seeds (and variants) with which the solved notebook is graded.
    seed : str
        From which the cases of all notebooks follow; the same one repeats a test.
    grade : Callable, optional
        Instead of `grade.grade_submission`, with its signature.
    show_progress : bool
        Whether to draw a progress bar.

    Returns
    -------
    list of Finding
        One for each thing that was tried, in order.
    """
    from tqdm import tqdm

    if grade is None:
        from dca_lab.grading.grade import grade_submission as grade
    findings = [*_wrong_enough(lab), *_cases(lab), *_judges(lab), *_student_copy(lab)]
    bar = tqdm(
        list(trials(lab, runs, seed)), desc=lab.name, unit="notebook", disable=progress.hidden(show_progress)
    )
    for trial in bar:
        constants = {**lab.constants, **trial.constants}
        record = grade(lab, trial.cells, sandbox, seed=trial.seed, constants=constants)
        findings += compared(trial, record)
    return findings


def compared(trial: Trial, record: Mapping[str, Any]) -> Iterator[Finding]:
    """What a trial's record shows."""
    problems = []
    for name, entry in record["exercises"].items():
        full = entry["points"] == entry["out_of"]
        seen = entry.get("public", {}).get("passed")
        message = _short(entry["message"])
        if name in trial.loses:
            part = bool(trial.mistake) and name == trial.exercise  # a wrong capstone may earn a part
            if full:
                problems.append(f"{name} earned all its points")
            elif entry["points"] and not part:
                problems.append(f"{name} earned {entry['points']:g} points")
        elif not full:
            problems.append(f"{name} lost points: {message}")
        elif seen is False:
            problems.append(f"{name} earned its points, but its visible checks fail: {message}")
        if entry.get("outcome") == "grader error":
            problems.append(f"{name} could not be graded: {message}")
    yield Finding("wrong" if problems else "ok", trial.check, "; ".join(problems))
    if trial.mistake and not problems:
        entry = record["exercises"][trial.exercise]
        recognised = entry["mistake"]
        if recognised != trial.mistake:
            text = f"recognised as {recognised}" if recognised else "not recognised"
            yield Finding("note", trial.check, f"{text}: {_short(entry['message'])}")


def _short(text: str) -> str:
    return textwrap.shorten(str(text), 160)


def _wrong_enough(lab: Lab) -> Iterator[Finding]:
    for exercise in lab.exercises:
        count = len(lab.wrong_answers(exercise.name))
        enough = count >= FEWEST_WRONG
        text = "" if enough else f"{count} typical wrong answers in wrong.py: write at least {FEWEST_WRONG}"
        yield Finding(
            "ok" if enough else "wrong", f"{exercise.name} has {FEWEST_WRONG} wrong answers or more", text
        )


def _cases(lab: Lab) -> Iterator[Finding]:
    for exercise in lab.exercises:
        check = f"the cases of {exercise.name} follow from the seed"
        try:
            one, same, other = (_drawn(exercise, lab, seed) for seed in ("one", "one", "other"))
        except Exception as error:
            yield Finding("wrong", check, f"{type(error).__name__}: {_short(str(error))}")
            continue
        if one != same:
            yield Finding("wrong", check, "the same seed gives different cases: draw from rng alone")
        elif one == other:
            yield Finding(
                "wrong", check, "another seed gives the same cases: hidden ones would be the visible ones"
            )
        else:
            yield Finding("ok", check)


def _drawn(exercise: Exercise, lab: Lab, seed: str) -> bytes:
    cases = exercise.draw(generator(seed, "hidden", exercise.name), lab.constants)
    return encode([[case.args, case.held] for case in cases])


def _judges(lab: Lab) -> Iterator[Finding]:
    for exercise in lab.exercises:
        if exercise.judge is None:
            continue
        problems = []
        case: Case = exercise.draw(generator("nonsense", exercise.name), lab.constants)[0]
        inside = [value for answer in _well_formed(lab, exercise, case) for value in _spoiled(answer)]
        for value in (*NONSENSE, *inside):
            shown = _short(show(value, 100))
            try:
                score = exercise.judge(copy.deepcopy(value), copy.deepcopy(case))
                if not (isinstance(score, Score) and score.fraction == 0):
                    problems.append(f"{shown} earns {score}")
            except Exception as error:
                problems.append(f"{shown} raises {type(error).__name__}: {_short(str(error))}")
        check = f"the judge of {exercise.name} refuses nonsense"
        yield Finding("wrong" if problems else "ok", check, "; ".join(problems))


def _well_formed(lab: Lab, exercise: Exercise, case: Case) -> Iterator[Any]:
    """What the lab's own wrong answers give: in the form that is asked for."""
    for answer in lab.wrong_answers(exercise.name)[:FEWEST_WRONG]:
        reply = replied(answer.function, case.args)
        if reply.kind == "value":
            yield reply.value


def _spoiled(answer: Any) -> Iterator[Any]:
    """The answer with one of its arrays replaced by numbers that no array can hold, for each of them."""
    if isinstance(answer, dict):
        items, kind = list(answer.items()), dict
    elif isinstance(answer, list | tuple):
        items, kind = list(enumerate(answer)), lambda pairs: type(answer)(value for _, value in pairs)
    else:
        if hasattr(answer, "shape") and len(answer.shape):
            yield from UNFIT
        return
    for place, (key, value) in enumerate(items[:20]):
        for spoiled in _spoiled(value):
            yield kind([*items[:place], (key, spoiled), *items[place + 1 :]])


def _student_copy(lab: Lab) -> Iterator[Finding]:
    from dca_lab.grading.release import leaks, release

    check = "the student's copy holds no line of a solution"
    with TemporaryDirectory() as folder:
        try:
            release(lab, Path(folder), targets=False)  # refuses what is not the author's own code
        except LabError as error:
            yield Finding("wrong", check, str(error))
            return
        for file in sorted(Path(folder).iterdir()):
            found = leaks(lab, file.read_bytes().decode("utf-8", "replace"))
            status = "ok" if not found else "wrong" if file.suffix == ".checks" else "note"
            said = f"also outside of it: {'; '.join(line.strip() for line in found)}" if found else ""
            yield Finding(status, f"{check}, {file.name}", said)
