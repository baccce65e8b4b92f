"""Notebooks whose grades are known beforehand: solved ones, and ones that lose exactly one exercise.

They are made from the lab's source by putting another text into one exercise cell: a known answer of the lab, or one of
the ways to break it that are open to every student. A capstone may train a network for a second or more, so it stays
unwritten where another exercise is tried, except in the first trial of each exercise's wrong answers.
What this is *not*: the grading of them, which is `selftest.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dca_lab.grading import source
from dca_lab.grading.exercise import Lab

BROKEN = {  # what any student can do to any exercise; {name} is the exercise, {solution} its solved cell
    "a syntax error": "def {name}(x:\n    return",
    "returns None": "def {name}(*args, **kwargs):\n    return None",
    "returns NaN": "def {name}(*args, **kwargs):\n    return float('nan')",
    "prints instead of returning": (
        "{solution}\n\n_solved_{name} = {name}\n\n\n"
        "def {name}(*args, **kwargs):\n    print(_solved_{name}(*args, **kwargs))"
    ),
    "imports the reference": (
        "def {name}(*args, **kwargs):\n    from dca_lab.grading import load_lab\n"
        "    return load_lab({lab!r}).exercise({name!r}).oracle(*args, **kwargs)"
    ),
}


@dataclass(frozen=True)
class Trial:
    """A notebook, the exercises that it must lose, the one that is tried, and the mistake to be recognised there."""

    check: str
    cells: list[str]
    loses: frozenset[str] = frozenset()
    exercise: str | None = None
    mistake: str | None = None
    seed: str = "selftest"
    constants: Mapping[str, Any] = field(default_factory=dict)


def trials(lab: Lab, runs: int = 3, seed: str = "selftest") -> Iterator[Trial]:
    """The notebooks whose grades are known beforehand; each run of the solved one has a seed of its own."""
    for run in range(runs):
        constants = {name: values[run % len(values)] for name, values in lab.choices.items()}
        check = f"the solved notebook, run {run + 1}" + (f", {constants}" if constants else "")
        yield Trial(check, source.solved(lab, constants=constants), seed=f"{seed} {run}", constants=constants)
    solutions = source.exercise_cells(source.build(lab, solution=True))
    unwritten = source.exercise_cells(source.build(lab, solution=False))
    capstones = {one.name: unwritten[one.name] for one in lab.exercises if one.judge is not None}

    def trial(
        check: str, name: str, text: str, *, loses: bool = True, mistake: str | None = None, whole=False
    ) -> Trial:
        left = {} if whole else {other: stub for other, stub in capstones.items() if other != name}
        lost = frozenset({*left, name} if loses else left)
        return Trial(check, source.solved(lab, {**left, name: text}), lost, name, mistake, seed)

    for answer in lab.right:
        yield trial(
            f"{answer.exercise} as {answer.name} (right)", answer.exercise, answer.source, loses=False
        )
    everything = frozenset(solutions)
    yield Trial("the untouched student's copy", source.unsolved(lab), everything, seed=seed)
    tried = set()
    for answer in lab.wrong:
        check, whole = f"{answer.exercise} as {answer.name} (wrong)", answer.exercise not in tried
        tried.add(answer.exercise)
        yield trial(check, answer.exercise, answer.source, mistake=answer.name, whole=whole)
    for name in solutions:
        for what, text in BROKEN.items():
            broken = text.format(name=name, solution=solutions[name], lab=str(lab.folder))
            yield trial(f"{name}: {what}", name, broken)
