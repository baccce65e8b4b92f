"""Whether an answer equals what is expected: numbers by their value, not by the type that carries them.

A list, a numpy array, a tensor of another dtype, a 0-d array and a Python number are the same answer when shape and
values agree. Two numbers agree as in `numpy.testing.assert_allclose`: |a - e| <= atol + rtol |e|; equal infinities
agree, and NaN agrees with NaN only. Exact integers are compared as integers. Tuples and lists are compared item by
item, dictionaries key by key, text exactly.
Nothing of the answer is asked for its opinion: a type is looked at with ``type``, and values are copied into plain
arrays before they are compared, so an object whose ``==`` says True is refused. What this is *not*: a sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dca_lab.grading.plain import UnfitError, array_of, array_or_none, kind_of, named, show


@dataclass(frozen=True)
class Difference:
    """What differs first.

    Attributes
    ----------
    kind : str
        ``shape``, ``type``, ``value``, ``missing`` (the keys of a dictionary), ``raised`` or ``changed`` (an argument,
        in place). Says nothing about values: safe to be shown in the hidden phase.
    text : str
        One sentence for people. May show values: for the visible phase only.
    """

    kind: str
    text: str


def difference(answer: Any, expected: Any, *, rtol: float = 0.0, atol: float = 0.0) -> Difference | None:
    """What makes `answer` differ from `expected`; None when they agree.

    Examples
    --------
    >>> difference([2, 4.0], np.array([2, 4]))
    >>> difference((1, 2, 4), [1, 2, 3])
    Difference(kind='value', text='1 of 3 values differs, at [2]: it is 4, and should be 3')
    >>> difference(3, np.array([3])).text
    'the shape is (), and should be (1,)'
    """
    return _compare(answer, expected, rtol, atol, "")


def _compare(answer: Any, expected: Any, rtol: float, atol: float, where: str) -> Difference | None:
    kind = kind_of(expected)
    if kind == "number":
        return _compare_numbers(answer, expected, rtol, atol, where)
    found = kind_of(answer)
    if kind == "sequence":
        numbers = array_or_none(expected)
        if numbers is not None:
            return _compare_numbers(answer, numbers, rtol, atol, where)
        return _compare_sequences(answer, expected, rtol, atol, where)
    if found != kind:
        return Difference("type", f"{where}it is {named(answer)}, and should be {named(expected)}")
    if kind == "dict":
        return _compare_dicts(answer, expected, rtol, atol, where)
    if kind != "none" and answer != expected:  # two exact str or bytes
        return Difference("value", f"{where}it is {show(answer)}, and should be {show(expected)}")
    return None


def _compare_sequences(answer: Any, expected: Any, rtol: float, atol: float, where: str) -> Difference | None:
    if kind_of(answer) == "number" and (numbers := array_or_none(answer)) is not None and numbers.ndim:
        answer = list(numbers) if len(numbers) == len(expected) else [None] * len(numbers)
    if kind_of(answer) != "sequence":
        return Difference("type", f"{where}it is {named(answer)}, and should be {named(expected)}")
    if len(answer) != len(expected):
        return Difference("shape", f"{where}it has {len(answer)} items, and should have {len(expected)}")
    for index, (one, other) in enumerate(zip(answer, expected, strict=True)):
        if found := _compare(one, other, rtol, atol, f"{where}item {index}: "):
            return found
    return None


def _compare_dicts(answer: dict, expected: dict, rtol: float, atol: float, where: str) -> Difference | None:
    for key in answer:
        if type(key) not in (str, int, bool, float, tuple, type(None)):
            return Difference("type", f"{where}a key of the dictionary is {named(key)}")
    for key, value in expected.items():
        if key not in answer:
            return Difference("missing", f"{where}the entry {key!r} is missing")
        if found := _compare(answer[key], value, rtol, atol, f"{where}entry {key!r}: "):
            return found
    if more := [key for key in answer if key not in expected]:
        return Difference("missing", f"{where}there is an entry {more[0]!r} that should not be there")
    return None


def _compare_numbers(answer: Any, expected: Any, rtol: float, atol: float, where: str) -> Difference | None:
    should = array_of(expected)
    try:
        is_ = array_of(answer)
    except UnfitError as error:
        if kind_of(answer) == "sequence" and all(kind_of(item) in ("number", "sequence") for item in answer):
            return Difference(
                "shape", f"{where}its rows are not of one shape, which should be {should.shape}"
            )
        return Difference("type", f"{where}{error}, and should be {named(expected)}")
    if is_.shape != should.shape:
        return Difference("shape", f"{where}the shape is {is_.shape}, and should be {should.shape}")
    wrong = ~_agree(is_, should, rtol, atol)
    if not wrong.any():
        return None
    if not should.shape:
        return Difference("value", f"{where}it is {show(is_)}, and should be {show(should)}")
    first = tuple(int(axis) for axis in np.argwhere(wrong)[0])
    count = int(wrong.sum())
    verb, at = ("differs, at", "it") if count == 1 else ("differ, the first at", "it")
    text = f"{count:,} of {wrong.size:,} values {verb} {list(first)}: {at} is {show(is_[first])}"
    return Difference("value", f"{where}{text}, and should be {show(should[first])}")


def _agree(answer: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    exact = answer.dtype.kind in "biu" and expected.dtype.kind in "biu"
    if exact and not (rtol or atol):
        return np.equal(answer, expected)
    wide = np.complex128 if "c" in (answer.dtype.kind, expected.dtype.kind) else np.float64
    a, e = answer.astype(wide), expected.astype(wide)
    with np.errstate(all="ignore"):  # infinity minus infinity is NaN, which is near nothing: what is wanted
        near = np.abs(a - e) <= atol + rtol * np.abs(e)
    finite = np.isfinite(a) & np.isfinite(e)
    return (near & finite) | (a == e) | (np.isnan(a) & np.isnan(e))
