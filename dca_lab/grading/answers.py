"""Answers of a lab that are known beforehand: typical mistakes, and unusual solutions that are right.

    @wrong("affine_params", "The range was not widened to contain zero: try the values 3, 4, 5 and 6.")
    def not_widened(x_min, x_max, bits): ...

A wrong answer works twice. It tests the grader: `dca lab test` puts it in the place of the solution, and it must lose
the points. And it is a diagnosis: when a student's function replies what `not_widened` replies, the student reads
its message. An answer's text is put into a notebook cell, so its body uses only what the lab's setup cell imports.
What this is *not*: a decorator that changes a function. The name stays bound to the function as written.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_collecting: ContextVar[list[Answer] | None] = ContextVar("collecting", default=None)


@dataclass(frozen=True)
class Answer:
    """One known answer to one exercise.

    Attributes
    ----------
    exercise : str
        The function that it stands in for.
    name : str
        Its own name: for a wrong answer the name of the mistake.
    message : str
        What a student who made this mistake reads; empty for a right answer.
    function : Callable
        The answer itself.
    source : str
        The function's text under the exercise's name, to be put into a notebook cell.
    """

    exercise: str
    name: str
    message: str
    function: Callable[..., Any]
    source: str


def wrong(exercise: str, message: str) -> Callable[[Callable], Callable]:
    """Mark a function as a typical wrong answer to `exercise`; `message` is what teaches the student who made it."""
    if not message.strip():
        raise ValueError(f"a wrong answer to {exercise!r} needs a message that explains the mistake")
    return lambda function: _note(exercise, message, function)


def right(exercise: str) -> Callable[[Callable], Callable]:
    """Mark a function as another right answer to `exercise`: a loop, another library, another dtype."""
    return lambda function: _note(exercise, "", function)


@contextmanager
def collecting() -> Iterator[list[Answer]]:
    """The answers that are marked inside the block, in order, also those whose names hide one another."""
    found: list[Answer] = []
    token = _collecting.set(found)
    try:
        yield found
    finally:
        _collecting.reset(token)


def _note(exercise: str, message: str, function: Callable) -> Callable:
    found = _collecting.get()
    if found is not None:  # outside of load_lab, for instance in a test of a lab, the marks mean nothing
        source = renamed(inspect.getsource(function), exercise)
        found.append(Answer(exercise, function.__name__, message.strip(), function, source))
    return function


def renamed(source: str, name: str) -> str:
    """The text of one decorated function without its decorators and under another name.

    Examples
    --------
    >>> print(renamed("@wrong('double', 'Once is not twice.')\\ndef once(x):\\n    return x\\n", "double"))
    def double(x):
        return x
    """
    source = textwrap.dedent(source)
    (node,) = ast.parse(source).body
    if not isinstance(node, ast.FunctionDef):
        raise ValueError(f"an answer to {name!r} is written as a function with def")
    lines = source.splitlines()[node.lineno - 1 :]
    lines[0] = re.sub(rf"\bdef\s+{node.name}\b", f"def {name}", lines[0], count=1)
    calls_itself = any(isinstance(inner, ast.Name) and inner.id == node.name for inner in ast.walk(node))
    if calls_itself:
        lines += ["", "", f"{node.name} = {name}"]
    return "\n".join(lines).rstrip()
