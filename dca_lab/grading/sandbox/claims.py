"""What a student's process claims, cut to the form that the grader works with.

Idea: everything that comes back is a claim. Its values are judged elsewhere; here only its form is: each field has its
type and a length, or is left out. What this is *not*: a check whether a claim is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dca_lab.grading.sandbox.channel import Refused
from dca_lab.grading.values import Reply

KINDS = ("value", "raised", "missing", "refused")


@dataclass(frozen=True)
class CellError:
    """What went wrong in a cell; `cell` counts from 1, `text` is the student's own words."""

    cell: int
    line: int | None
    exception: str
    text: str


def reply(answer: Any) -> Reply:
    """A Reply from what the process claims; Refused if the claim has not the form of one."""
    kind = answer.get("kind") if isinstance(answer, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:  # an array would not be equal to a text, but to many
        raise Refused("what came back is not an answer")
    arguments = answer.get("arguments")
    return Reply(
        kind=kind,
        value=answer.get("value"),
        exception=words(answer.get("exception"), 200),
        text=words(answer.get("text"), 2000),
        line=line(answer.get("line")),
        arguments=arguments if isinstance(arguments, tuple) else None,
    )


def words(text: Any, most: int) -> str:
    """Text of at most so many characters; empty for anything else."""
    return text[:most] if isinstance(text, str) else ""


def line(number: Any) -> int | None:
    """The number of a line, or None."""
    return number if type(number) is int and 0 < number < 10**6 else None


def errors(answer: dict) -> list[CellError]:
    """The errors that the cells are said to have made."""
    found = []
    claims = answer.get("errors")
    for claim in claims[:1000] if isinstance(claims, list) else []:
        if isinstance(claim, dict) and type(claim.get("cell")) is int and 0 < claim["cell"] < 10**6:
            exception, text = words(claim.get("exception"), 200), words(claim.get("text"), 2000)
            found.append(CellError(claim["cell"], line(claim.get("line")), exception, text))
    return found


def names(answer: dict) -> list[str]:
    """The functions that the cells are said to define."""
    claims = answer.get("names")
    return [name[:200] for name in claims[:1000] if isinstance(name, str)] if isinstance(claims, list) else []
