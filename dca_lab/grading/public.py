"""The visible checks inside a student's notebook: ``check("relu")`` right after the exercise.

The function is called here and now, on copies of the recorded inputs, and judged by the code that grades. What comes
back passes through the same narrow door as in the grader's sandbox (`values.py`), so that what passes here is not
refused there. One line says that all is well; else the message says what is wrong with the smallest failing example.
Student errors never raise, so that a notebook runs to its end. What this is *not*: a grade. It remembers nothing,
and the points are given for hidden cases.
"""

from __future__ import annotations

import copy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dca_lab.grading import checks_file
from dca_lab.grading.checks_file import Recorded
from dca_lab.grading.exercise import Score
from dca_lab.grading.judge import judge_exercise
from dca_lab.grading.values import BadValue, Reply, decode, encode


def lab_checks(lab: str) -> Checks:
    """The visible checks of a lab, for its notebook: ``check = lab_checks("pruning")``, then ``check("saliency")``.

    Parameters
    ----------
    lab : str
        Its name. The file `<lab>.checks` lies beside the notebook; in the course's repository the lab's own folder
        will do.

    Returns
    -------
    Checks
        Call it with the name of an exercise, or without for an overview.
    """
    return Checks(lab)


class Checks:
    """``check(name) -> bool``: True when all visible cases pass. ``check()``: a line for each exercise."""

    def __init__(self, lab: str) -> None:
        self._lab = lab
        self._recorded: dict[str, Recorded] = {}

    def __call__(self, name: str | None = None) -> bool:
        namespace = sys._getframe(1).f_globals  # the notebook's: there the student's functions live
        if not self._recorded:
            try:
                self._recorded = _find(self._lab, namespace)
            except FileNotFoundError as error:
                print(error)
                return False
        if name is None:
            return self._overview(namespace)
        if name not in self._recorded:
            print(f"{name!r} is no exercise of this lab; they are {', '.join(self._recorded)}")
            return False
        score = _score(self._recorded[name], namespace.get(name))
        print(f"{name}: {_line(self._recorded[name], score)}")
        return score.fraction >= 1

    def _overview(self, namespace: dict[str, Any]) -> bool:
        scores = {name: _score(one, namespace.get(name)) for name, one in self._recorded.items()}
        width = max(map(len, scores))
        for name, score in scores.items():
            print(f"{name:{width}}  {_line(self._recorded[name], score)}")
        earned = sum(one.exercise.points * scores[name].fraction for name, one in self._recorded.items())
        print(
            f"{earned:g} of {sum(one.exercise.points for one in self._recorded.values()):g} points on visible cases"
        )
        return all(score.fraction >= 1 for score in scores.values())


def _line(recorded: Recorded, score: Score) -> str:
    points = recorded.exercise.points
    worth = f"{points:g} point{'' if points == 1 else 's'}"
    if score.fraction >= 1:
        count = len(recorded.cases)
        passed = f"all {count} visible cases pass" if count > 1 else "the visible case passes"
        measured = f". {score.message}" if recorded.exercise.judge is not None else ""
        return f"{passed} ({worth} if the hidden ones do too){measured}"
    if score.fraction > 0:
        return f"{points * score.fraction:.3g} of {worth} on the visible cases. {score.message}"
    return score.message


def _score(recorded: Recorded, function: Any) -> Score:
    name = recorded.exercise.name
    if function is None:
        return Score(0.0, f"there is no function `{name}` yet: run the cell that defines it")
    if not callable(function):
        return Score(0.0, f"`{name}` is not a function but a {type(function).__name__}: run its cell again")
    replies: list[Reply] = []
    for case in recorded.cases:
        replies.append(call(function, case.args, recorded.exercise.seconds))
        if replies[-1].kind == "timeout":
            slow = f"it took longer than the {recorded.exercise.seconds:g} seconds that one call may take"
            less = (
                "train fewer steps, or less"
                if recorded.exercise.judge
                else "is there a loop that could be an array operation?"
            )
            return Score(0.0, f"{slow}: {less}")
    try:
        return judge_exercise(recorded.exercise, recorded.cases, replies, hidden=False, key=recorded)
    except Exception as error:  # a capstone's measurement of something that it did not foresee
        return Score(0.0, f"what it returned could not be measured ({type(error).__name__}: {error})")


class _TooSlow(BaseException):
    """Raised in the student's function when its time is over; no Exception, so that few functions catch it."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Interrupt the block after `seconds`, where the system and the thread allow it; else it is timed afterwards."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def call(function: Callable[..., Any], args: tuple, seconds: float) -> Reply:
    """Call a student's function on copies of `args`; whatever happens is a Reply, as from the sandbox."""
    mine = copy.deepcopy(args)
    started = time.perf_counter()
    try:
        with _alarm(seconds):
            value = function(*mine)
    except _TooSlow:
        return Reply("timeout")
    except KeyboardInterrupt:
        raise  # the student wants it to stop
    except SystemExit:
        return Reply("crashed")
    except BaseException as error:
        line = _line_of(error, function)
        return Reply("raised", exception=type(error).__name__, text=_text(error), line=line, arguments=mine)
    if time.perf_counter() - started > seconds:
        return Reply("timeout")
    try:
        return Reply("value", value=decode(encode(value)), arguments=decode(encode(mine)))
    except BadValue as error:
        return Reply("refused", text=str(error))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception class of the student's own, whose text fails
        return ""


def _line_of(error: BaseException, function: Callable[..., Any]) -> int | None:
    """The line in the student's cell: of the innermost frame in the file, or cell, that holds the function."""
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if code is not None and frame.filename == code.co_filename]
    return lines[-1] if lines else None


def _find(lab: str, namespace: dict[str, Any]) -> dict[str, Recorded]:
    notebook = namespace.get(
        "__vsc_ipynb_file__"
    )  # some editors start every kernel in the workspace's folder
    folders = [Path.cwd()] + ([Path(notebook).parent] if notebook else [])
    for folder in folders:
        if (folder / f"{lab}.checks").is_file():
            try:
                return checks_file.read(folder / f"{lab}.checks")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FileNotFoundError(f"{folder / f'{lab}.checks'} cannot be used: {error}") from error
        if (
            folder.name == lab and (folder / "checks.py").is_file()
        ):  # the lab's source, as when the book is built
            from dca_lab.grading.exercise import load_lab

            return checks_file.unpacked(checks_file.record(load_lab(folder)), folder)
    raise FileNotFoundError(
        f"The checks of this lab, {lab}.checks, are not in {' or '.join(map(str, folders))}: "
        "put the file that came with the notebook beside it, and run this cell again."
    )
