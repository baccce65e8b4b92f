"""The visible checks of a lab as a file: inputs, what is right, and what typical mistakes reply, on public seeds.

A student's notebook needs no oracle, only its replies: `release` records them beside the notebook as `<lab>.checks`,
and `public` compares. The file is a value of `values.py`, so reading it runs no code; a capstone's judge is looked up
in the `measure.py` beside it. What this is *not*: secret. It holds no function, and the hidden cases have other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dca_lab.files import replacing
from dca_lab.grading.compare import difference
from dca_lab.grading.exercise import Case, Exercise, Lab, LabError, public_cases
from dca_lab.grading.key import Key, Mistake
from dca_lab.grading.values import BadValue, Reply, decode, encode

_FORMAT = 1  # raised when the file's fields change
_KEPT = ("points", "rtol", "atol", "seconds", "keeps_arguments")


@dataclass(frozen=True)
class Recorded:
    """One exercise as it was recorded. Has what `judge_exercise` asks a Key for."""

    exercise: Exercise
    cases: tuple[Case, ...]
    expected: tuple[Reply, ...]
    mistakes: tuple[Mistake, ...]


def record(lab: Lab, constants: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that the visible checks of a lab need, as one value."""
    values = {**lab.constants, **(constants or {})}
    exercises = []
    for exercise in lab.exercises:
        cases = public_cases(exercise, values)
        key = Key(exercise, cases, lab.wrong_answers(exercise.name))
        exercises.append(
            {
                "name": exercise.name,
                **{name: getattr(exercise, name) for name in _KEPT},
                "judge": None if exercise.judge is None else _judge_name(lab, exercise),
                "cases": [{"args": case.args, "held": case.held} for case in cases],
                "expected": [_packed(reply, case) for reply, case in zip(key.expected, cases, strict=False)],
                "mistakes": [
                    {
                        "name": mistake.name,
                        "message": mistake.message,
                        "replies": [_packed(*pair) for pair in zip(mistake.replies, cases, strict=True)],
                    }
                    for mistake in key.mistakes
                ],
            }
        )
    return {
        "format": _FORMAT,
        "lab": lab.name,
        "digest": lab.digest,
        "constants": values,
        "exercises": exercises,
    }


def write(lab: Lab, path: Path, constants: Mapping[str, Any] | None = None) -> None:
    """Record the visible checks of a lab into a file."""
    try:
        data = encode(record(lab, constants))
    except BadValue as error:
        raise LabError(f"the visible cases of {lab.name} cannot be written: {error}") from error
    with replacing(path) as beside:
        beside.write_bytes(data)


def read(path: Path) -> dict[str, Recorded]:
    """The exercises of a `.checks` file, by name; ValueError when it is damaged or of another version."""
    found = decode(path.read_bytes(), limit=1 << 30)
    return unpacked(found, path.parent)


def unpacked(found: Any, folder: Path) -> dict[str, Recorded]:
    """What `record` gave, ready to be judged. A capstone's judge comes from `measure.py` in `folder`."""
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError("its format is another one: get lab and package of the same version")
    measure: ModuleType | None = None
    recorded = {}
    for entry in found["exercises"]:
        judge = None
        if entry["judge"] is not None:
            measure = measure or _measure(folder)
            judge = getattr(measure, entry["judge"])
        exercise = Exercise(
            entry["name"],
            cases=_recorded_only,
            judge=judge,
            oracle=None if judge else _recorded_only,
            **{name: entry[name] for name in _KEPT},
        )
        recorded[exercise.name] = Recorded(
            exercise,
            tuple(Case(case["args"], case["held"]) for case in entry["cases"]),
            tuple(Reply(**reply) for reply in entry["expected"]),
            tuple(
                Mistake(one["name"], one["message"], tuple(Reply(**reply) for reply in one["replies"]))
                for one in entry["mistakes"]
            ),
        )
    return recorded


def _recorded_only(*args: Any) -> Any:
    raise RuntimeError("a .checks file holds replies, not the functions that gave them")


def _packed(reply: Reply, case: Case) -> dict[str, Any]:
    """A reply as a dictionary; its arguments only where they were changed."""
    try:
        encode(reply.value)
    except BadValue:  # a typical mistake may return something that no notebook could send either
        return {"kind": "refused"}
    packed: dict[str, Any] = {"kind": reply.kind, "value": reply.value}
    if reply.exception:
        packed |= {"exception": reply.exception, "text": reply.text}
    if reply.arguments is not None and difference(tuple(reply.arguments), case.args) is not None:
        packed["arguments"] = reply.arguments
    return packed


def _judge_name(lab: Lab, exercise: Exercise) -> str:
    judge = exercise.judge
    if not (getattr(judge, "__module__", "").endswith("_measure") and judge.__name__ == judge.__qualname__):
        raise LabError(
            f"{lab.name}: the judge of {exercise.name} must be a function of measure.py, so that students have it"
        )
    return judge.__name__


def _measure(folder: Path) -> ModuleType:
    path = folder / "measure.py"
    if not path.is_file():
        raise ValueError(f"measure.py is missing in {folder}: it belongs beside the notebook")
    module = ModuleType("dca_lab_measure")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True), module.__dict__)
    return module
