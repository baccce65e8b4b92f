"""The hidden checks inside the student's process: what an exported lab calls in otter and nbgrader.

    earned("tiny.hidden", "relu", globals())       a Score, as `dca grade` gives it for the same cases
    points("tiny.hidden", "relu", globals(), 2)    what it is worth; prints the message (nbgrader's partial credit)

Neither tool may take points for noise: nbgrader gives 0 as soon as a graded cell writes one warning to stderr. So the
student's function runs with stdout, stderr and logging turned off, and under an alarm, since no one else stops an
endless loop. What this is *not*: safe. The code under test can read the file and change this module; `dca grade` is
the verdict that counts.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dca_lab.grading import checks_file
from dca_lab.grading.checks_file import Recorded
from dca_lab.grading.exercise import MOST_TIMEOUTS, Score
from dca_lab.grading.judge import judge_exercise
from dca_lab.grading.public import call
from dca_lab.grading.values import Reply


def earned(file: str, name: str, namespace: Mapping[str, Any]) -> Score:
    """The score of one exercise.

    Parameters
    ----------
    file : str
        The recorded cases: `<lab>.hidden`, whose messages keep the values secret, or `<lab>.checks`. Looked for in the
        working directory and in those above it.
    name : str
        The exercise, and the name of the student's function.
    namespace : mapping
        Where the notebook's functions live.

    Returns
    -------
    Score
        Whatever the student's code does: an error in it is a score of 0 with a message.
    """
    path = find(file)
    recorded = checks_file.read(path)[name]
    function = namespace.get(name)
    if not callable(function):
        return Score(
            0.0, f"There is no function `{name}`: was its cell deleted, or did it stop with an error?"
        )
    hidden = path.suffix == ".hidden"
    try:
        with silence():
            replies = _replies(function, recorded)
            return judge_exercise(recorded.exercise, recorded.cases, replies, hidden=hidden, key=recorded)
    except BaseException as error:  # also a KeyboardInterrupt or a SystemExit of the student's own
        return Score(0.0, f"It could not be graded: {type(error).__name__}.")


def points(file: str, name: str, namespace: Mapping[str, Any], out_of: float) -> float:
    """The points for one exercise; the message is printed."""
    score = earned(file, name, namespace)
    print(f"{name}: {score.message}")
    return min(float(out_of), max(0.0, out_of * score.fraction))


def find(file: str) -> Path:
    """The file in the working directory or above it; FileNotFoundError says where it belongs."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / file).is_file():
            return folder / file
    raise FileNotFoundError(f"{file}, which `dca lab release` wrote, is neither in {here} nor above it")


def _replies(function: Any, recorded: Recorded) -> list[Reply]:
    replies: list[Reply] = []
    for case in recorded.cases:
        replies.append(call(function, case.args, recorded.exercise.seconds))
        if [one.kind for one in replies].count("timeout") >= MOST_TIMEOUTS:
            break
    return replies + [replies[-1]] * (len(recorded.cases) - len(replies))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No output: of Python, of loggers that kept an earlier stderr, and of C code that writes to 1 and 2."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for descriptor, number in zip(kept, (1, 2), strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(null)
        logging.disable(disabled)
