"""The key to some cases: what is right, and what each typical mistake replies.

The oracle and the wrong answers of a lab are trusted code. They are called on copies of the same arguments as the
student's function, when their replies are first asked for: a class of 300 needs them once. What this is *not*: a
sandbox. `guarded` only keeps a wrong answer that never returns from stopping the grader.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dca_lab.grading.exercise import Case, Exercise
from dca_lab.grading.values import BadValue, Reply, encode

if TYPE_CHECKING:
    from dca_lab.grading.answers import Answer


@dataclass(frozen=True)
class Mistake:
    """A typical mistake and what it replies to each case."""

    name: str
    message: str
    replies: tuple[Reply, ...]


class Key:
    """The expected replies to some cases and those of typical mistakes, found when first asked for.

    One key serves all students who get the same cases.

    Parameters
    ----------
    exercise : Exercise
    cases : list of Case
    answers : sequence of Answer
        The lab's wrong answers to this exercise.
    """

    def __init__(self, exercise: Exercise, cases: Sequence[Case], answers: Sequence[Answer]) -> None:
        self.exercise, self.cases = exercise, tuple(cases)
        self._answers = [answer for answer in answers if answer.exercise == exercise.name]

    @cached_property
    def expected(self) -> tuple[Reply, ...]:
        """The oracle's replies; empty for a capstone, which has none."""
        if self.exercise.oracle is None:
            return ()
        return tuple(replied(self.exercise.oracle, case.args) for case in self.cases)

    @cached_property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The wrong answers' replies."""
        return tuple(
            Mistake(answer.name, answer.message, self._replies(answer.function)) for answer in self._answers
        )

    def _replies(self, function: Any) -> tuple[Reply, ...]:
        replies: list[Reply] = []
        for case in self.cases:
            slow = (
                bool(replies) and replies[-1].kind == "timeout"
            )  # then it is slow everywhere, and we are in a hurry
            replies.append(Reply("timeout") if slow else guarded(function, case.args, self.exercise.seconds))
        return tuple(replies)


def key_for(exercise: Exercise, cases: Sequence[Case], answers: Sequence[Answer]) -> Key:
    """The key to these cases; the one made before when another student got the same arguments."""
    try:
        digest = hashlib.sha256(encode([case.args for case in cases])).digest()
    except BadValue:  # arguments that cannot travel, in a test of a lab
        return Key(exercise, cases, answers)
    return _kept(digest, exercise, tuple(answers), _Unhashed(tuple(cases)))


@dataclass(frozen=True)
class _Unhashed:
    """Cases beside their digest: two with the same digest are the same."""

    cases: tuple[Case, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=64)
def _kept(digest: bytes, exercise: Exercise, answers: tuple[Answer, ...], unhashed: _Unhashed) -> Key:
    return Key(exercise, unhashed.cases, answers)


def replied(function: Any, args: tuple) -> Reply:
    """Call a trusted function on copies of `args`, as the sandbox calls a student's."""
    mine = copy.deepcopy(args)
    try:
        with np.errstate(all="ignore"):
            value = function(*mine)
    except Exception as error:
        return Reply("raised", exception=type(error).__name__, text=str(error), arguments=mine)
    return Reply("value", value=value, arguments=mine)


def guarded(function: Any, args: tuple, seconds: float) -> Reply:
    """`replied` with a limit on time: a wrong answer that never returns is left behind in its own thread."""
    found: list[Reply] = []
    worker = threading.Thread(target=lambda: found.append(replied(function, args)), daemon=True)
    worker.start()
    worker.join(seconds)
    return found[0] if found else Reply("timeout")
