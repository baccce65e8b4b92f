"""What a student reads when no typical mistake was recognised: what happened, where, and a question to think about.

In the visible phase the smallest failing example is shown in full. In the hidden phase a message keeps inputs,
values, shapes and the texts of exceptions to itself; of an exception it names the class only where Python defines it,
since a class of the student's own could carry a hidden input in its name.
What this is *not*: the lab's own explanations of typical mistakes. Those stand in `wrong.py` and come first.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dca_lab.grading.compare import Difference, difference
from dca_lab.grading.exercise import Case
from dca_lab.grading.plain import array_or_none, show
from dca_lab.grading.values import Reply

_HAPPENED = {
    "missing": "there is no such function: was its cell deleted or renamed, or did it stop with an error?",
    "crashed": "the process ended during the call: too much memory, or an exit?",
    "timeout": "it took too long: is there a loop that does not end, or one that could be an array operation?",
    "exhausted": (
        "the time for the whole notebook was used up before its turn came: is there a cell or an exercise, perhaps "
        "above it, that computes or waits for minutes?"
    ),
    "refused": "what it returned is not a value: return arrays, numbers or text.",
}
UNUSABLE = "What it returned has the right form, but holds values that cannot be measured: are all of them finite numbers?"
NOBODY_TYPES = "nobody can type while this is graded: use a constant"


def what_happened(reply: Reply, *, hidden: bool) -> str:
    """One sentence on a reply that is not a value."""
    if reply.kind != "raised":
        return (
            f"{reply.text}."
            if reply.kind == "refused" and reply.text and not hidden
            else _HAPPENED[reply.kind]
        )
    if reply.exception == "NotImplementedError":
        return "not written yet."
    if reply.exception == "EOFError":
        return f"it raised EOFError, as input() does: {NOBODY_TYPES}."
    if hidden:
        known = isinstance(getattr(builtins, reply.exception, None), type)
        return f"it raised {reply.exception if known else 'an exception of its own'}."
    line = f" in line {reply.line}" if reply.line else ""
    return f"it raised {reply.exception}{line}: {reply.text[:300]}".rstrip(": ") + "."


def describe(
    name: str,
    cases: Sequence[Case],
    replies: Sequence[Reply],
    expected: Sequence[Reply],
    wrong: Mapping[int, Difference],
    *,
    hidden: bool,
) -> str:
    """The message for an exercise whose wrong cases fit no typical mistake.

    Parameters
    ----------
    name : str
        The exercise.
    cases, replies, expected : sequence
        All cases, what the student's function replied, and what is right.
    wrong : mapping
        From the number of each wrong case to what is wrong with it; not empty.
    hidden : bool
        Whether values must not be shown.
    """
    if all(replies[index].exception == "NotImplementedError" for index in wrong):
        return "not written yet."
    index = min(
        wrong, key=lambda one: (_size(cases[one].args), one)
    )  # the smallest example is the easiest to follow
    reply, found = replies[index], wrong[index]
    parts = [_count(len(cases), wrong, hidden)]
    if reply.kind != "value" and found.kind != "changed":
        sentence = what_happened(reply, hidden=hidden)
    else:
        sentence = _hidden_sentence(found, expected[index]) if hidden else f"{found.text}."
    if hidden:
        parts.append(sentence[:1].upper() + sentence[1:])
    else:
        arguments = ", ".join(show(argument, 100) for argument in cases[index].args)
        parts.append(f"For {name}({arguments}) {sentence}")
    parts += _hints(cases, replies, expected, wrong, index, hidden)
    return " ".join(part for part in parts if part)


def _count(total: int, wrong: Mapping[int, Difference], hidden: bool) -> str:
    if len(wrong) == total:
        return ""
    kind = "hidden" if hidden else "visible"
    return f"Right for {total - len(wrong)} of {total} {kind} cases."


def _hidden_sentence(found: Difference, expected: Reply) -> str:
    return {
        "shape": "The shape of the result is wrong.",
        "type": "The result is of the wrong kind.",
        "value": "Some values are wrong.",
        "missing": "The entries of the dictionary are not those that were asked for.",
        "raised": f"It should raise {expected.exception} for an input that is not allowed.",
        "changed": "It changed its argument in place: work on a copy.",
    }[found.kind]


def _hints(
    cases: Sequence[Case],
    replies: Sequence[Reply],
    expected: Sequence[Reply],
    wrong: Mapping[int, Difference],
    index: int,
    hidden: bool,
) -> list[str]:
    reply, should = replies[index], expected[index]
    if reply.kind == "value" and reply.value is None and should.value is not None:
        return ["It returned None: is there a `return`?"]
    if reply.kind != "value" or should.kind != "value":
        return []
    hints = []
    if _has_nan(reply.value) and not _has_nan(should.value):
        zero = not hidden and any(_all_zero(argument) for argument in cases[index].args)
        hints.append("The result contains NaN" + (" where the input is all zero." if zero else "."))
    elif not hidden and wrong[index].kind in ("value", "shape"):
        hints += _likeness(reply.value, should.value)
    right = [one for one in range(len(cases)) if one not in wrong]
    if right and not hints and wrong[index].kind != "changed":
        for what, of in (("shape", _shapes), ("dtype", _dtypes)):
            seen = {of(cases[one].args) for one in right}
            # right for one shape only; where several are right, another thing tells the cases apart
            if len(seen) == 1 and not any(of(cases[one].args) in seen for one in wrong):
                hints.append(f"Does it depend on the {what} of its input?")
                break
    return hints


def _likeness(value: Any, expected: Any) -> list[str]:
    """How a wrong result resembles the right one."""
    a, e = _numbers(value), _numbers(expected)
    if a is None or e is None:
        return []
    if a.ndim == 2 and a.shape == e.shape[::-1] and difference(a.T, e, rtol=1e-6) is None:
        return ["It looks transposed."]
    if a.shape == e.shape and difference(-a, e, rtol=1e-6) is None:
        return ["The sign is the other way round."]
    if a.size == e.size and a.shape != e.shape and difference(a.reshape(e.shape), e, rtol=1e-6) is None:
        return ["The values are right, only the shape is not."]
    return []


def _numbers(value: Any) -> np.ndarray | None:
    array = array_or_none(value)
    return array.astype(np.float64) if array is not None and array.dtype.kind in "biuf" else None


def _has_nan(value: Any) -> bool:
    array = _numbers(value)
    return array is not None and bool(np.isnan(array).any())


def _all_zero(value: Any) -> bool:
    array = _numbers(value)
    return array is not None and array.ndim > 0 and array.size > 0 and not array.any()


def _size(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    array = _numbers(value)
    return 1 if array is None else array.size


def _shapes(args: tuple) -> tuple:
    return tuple(tuple(getattr(argument, "shape", ())) for argument in args)


def _dtypes(args: tuple) -> tuple:
    return tuple(str(getattr(argument, "dtype", type(argument).__name__)) for argument in args)
