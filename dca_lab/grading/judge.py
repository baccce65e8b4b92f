"""From replies to a score: shared by the visible checks, the hidden grading and the exports.

All cases right earns the exercise; one wrong case earns nothing, but a message that teaches. It is the message of the
typical mistake that explains all the wrong replies: each wrong answer of the lab is run on the same inputs, and is
recognised when it is itself wrong there and gives the same replies. Of several the one whose wrong cases are most
nearly the student's comes first. Where none fits, `messages.py` describes what happened. A capstone has a judge, which
measures each answer: the score is the mean. Where a judge stumbles over a value, the value is wrong, if the judge manages
the lab's own answers to the same case; else the judge is broken, and that must be seen. What this is *not*: a place where
student code runs. Replies are values.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dca_lab.grading import messages
from dca_lab.grading.compare import Difference, difference
from dca_lab.grading.exercise import Case, Exercise, Score
from dca_lab.grading.key import Key, Mistake, key_for
from dca_lab.grading.values import Reply

if TYPE_CHECKING:
    from dca_lab.grading.answers import Answer


UNFIT = (OverflowError, TypeError, ValueError)  # what a conversion to numbers raises


def accepted_names(exception: str) -> set[str]:
    """The names that count as `exception` raised: its own and those of its known subclasses.

    A name is all that comes back from a student's process, so a subclass of the student's own is not known.

    Examples
    --------
    >>> "UnicodeDecodeError" in accepted_names("ValueError"), accepted_names("Unheard")
    (True, {'Unheard'})
    """
    names, left = {exception}, [getattr(__import__("builtins"), exception, None)]
    while left:
        kind = left.pop()
        if isinstance(kind, type) and issubclass(kind, BaseException):
            known = [one for one in kind.__subclasses__() if not one.__module__.startswith("__main__")]
            names.update(one.__name__ for one in known)
            left += known
    return names - ({"NotImplementedError"} - {exception})


def judge_case(exercise: Exercise, case: Case, reply: Reply, expected: Reply) -> Difference | None:
    """What is wrong with one reply; None when it is right."""
    if expected.kind == "raised":
        if reply.kind == "raised" and reply.exception in accepted_names(expected.exception):
            return _changed(exercise, case, reply)
        if reply.kind == "value":
            return Difference("raised", f"it should raise {expected.exception} ({expected.text})")
    if reply.kind != "value":
        return Difference(reply.kind, messages.what_happened(reply, hidden=False))
    found = difference(reply.value, expected.value, rtol=exercise.rtol, atol=exercise.atol)
    return found or _changed(exercise, case, reply)


def _changed(exercise: Exercise, case: Case, reply: Reply) -> Difference | None:
    if not exercise.keeps_arguments or reply.arguments is None:
        return None
    if difference(tuple(reply.arguments), case.args) is None:
        return None
    return Difference("changed", "it changed its argument in place")


def judge_exercise(
    exercise: Exercise,
    cases: Sequence[Case],
    replies: Sequence[Reply],
    answers: Sequence[Answer] = (),
    *,
    hidden: bool,
    key: Key | None = None,
) -> Score:
    """The score of one exercise in one phase.

    Parameters
    ----------
    exercise : Exercise
    cases, replies : sequence
        One reply a case, in the same order.
    answers : sequence of Answer
        The lab's wrong answers, to recognise mistakes.
    hidden : bool
        Whether the message must keep inputs, values, shapes and the texts of exceptions to itself.
    key : Key, optional
        Made from `cases` and `answers` beforehand, to be shared between students.

    Returns
    -------
    Score
        1.0 when all cases are right and else 0.0; for a capstone the mean of its cases' fractions.
    """
    if len(cases) != len(replies):
        raise ValueError(f"{exercise.name}: {len(cases)} cases need as many replies, not {len(replies)}")
    key = key or key_for(exercise, cases, answers)
    if exercise.judge is not None:
        return _measured(exercise, cases, replies, key, hidden)
    wrong = {
        index: found
        for index, (case, reply, expected) in enumerate(zip(cases, replies, key.expected, strict=True))
        if (found := judge_case(exercise, case, reply, expected)) is not None
    }
    if not wrong:
        return Score(1.0, "right")
    if (mistake := recognised(exercise, cases, replies, key, set(wrong))) is not None:
        return Score(0.0, mistake.message, mistake.name)
    return Score(0.0, messages.describe(exercise.name, cases, replies, key.expected, wrong, hidden=hidden))


def recognised(
    exercise: Exercise, cases: Sequence[Case], replies: Sequence[Reply], key: Key, wrong: set[int]
) -> Mistake | None:
    """The typical mistake that explains every wrong reply, or None."""
    if any(replies[index].kind in ("missing", "crashed", "exhausted", "refused") for index in wrong):
        return None  # nothing came back that could be compared
    if all(replies[index].exception == "NotImplementedError" for index in wrong):
        return None
    best, best_distance = None, math.inf
    for mistake in key.mistakes:
        if not all(_same(exercise, cases[index], replies[index], mistake.replies[index]) for index in wrong):
            continue
        if exercise.oracle is not None:
            own = {
                index
                for index, case in enumerate(cases)
                if judge_case(exercise, case, mistake.replies[index], key.expected[index]) is not None
            }
        else:
            own = wrong
        if wrong <= own and len(own - wrong) < best_distance:
            best, best_distance = mistake, len(own - wrong)
    return best


def _same(exercise: Exercise, case: Case, reply: Reply, mistake: Reply) -> bool:
    if reply.kind != mistake.kind:
        return False
    if reply.kind == "raised":
        return reply.exception == mistake.exception
    if reply.kind == "timeout":
        return True
    # the tolerance of the exercise: the same mistake may have been made in another order of summation
    near = difference(reply.value, mistake.value, rtol=max(exercise.rtol, 1e-9), atol=exercise.atol)
    return near is None and (_changed(exercise, case, reply) is None) == (
        _changed(exercise, case, mistake) is None
    )


def _measured(
    exercise: Exercise, cases: Sequence[Case], replies: Sequence[Reply], key: Key, hidden: bool
) -> Score:
    scores = []
    for index, (case, reply) in enumerate(zip(cases, replies, strict=True)):
        if reply.kind != "value":
            scores.append(Score(0.0, messages.what_happened(reply, hidden=hidden)))
        elif (changed := _changed(exercise, case, reply)) is not None:
            scores.append(Score(0.0, f"{changed.text}: work on a copy."))
        else:
            scores.append(_judged(exercise, index, case, reply, key))
    for score in scores:
        if not 0 <= score.fraction <= 1:
            raise ValueError(f"the judge of {exercise.name} gave the fraction {score.fraction}")
    fraction = math.fsum(score.fraction for score in scores) / len(scores)
    worst = min(scores, key=lambda score: score.fraction)
    wrong = {index for index, score in enumerate(scores) if score.fraction < 1}
    mistake = recognised(exercise, cases, replies, key, wrong) if wrong else None
    if mistake is not None:
        return Score(fraction, f"{mistake.message} {worst.message}".strip(), mistake.name)
    return Score(fraction, worst.message, worst.mistake)


def _judged(exercise: Exercise, index: int, case: Case, reply: Reply, key: Key) -> Score:
    """What the lab's judge says; nothing, if the value cannot be converted to what it measures."""

    def measured(value: Any) -> Score:
        return exercise.judge(copy.deepcopy(value), copy.deepcopy(case))

    try:
        return measured(reply.value)
    except UNFIT:
        known = [mistake.replies[index] for mistake in key.mistakes]
        if not any(_manages(measured, one.value) for one in known if one.kind == "value"):
            raise
        return Score(0.0, messages.UNUSABLE)


def _manages(measured: Callable[[Any], Score], value: Any) -> bool:
    try:
        measured(value)
    except Exception:
        return False
    return True
