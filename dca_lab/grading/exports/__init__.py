"""Labs in the formats of other graders: otter-grader, nbgrader, Gradescope.

otter and nbgrader run a student's code *beside* the checks, in one process. Whoever wants to can read the hidden cases
there, or overwrite the grade. These two exports are therefore for authoring, exchange and gradebooks, among people who
trust each other; the verdict that counts is `dca grade`. The Gradescope export runs `dca grade` itself, sandbox and all.

What travels with an export are not the checks but their cases, recorded with a seed that was drawn at the release
(`<lab>.hidden`, a file like `<lab>.checks`); `beside.py` judges them with the code of `dca grade`. What this is *not*:
imported by anything but a release, so that neither tool has to be installed for the rest.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dca_lab.grading import checks_file
from dca_lab.grading.exercise import Case, Exercise, Lab, generator

REPOSITORY = Path(__file__).resolve().parents[3]


def new_seed() -> str:
    """The secret of one release; from it the hidden cases follow as they do from the secret of a run."""
    return secrets.token_hex(16)


def write_hidden(lab: Lab, path: Path, constants: dict[str, Any] | None = None) -> None:
    """Record hidden cases, what is right and what typical mistakes reply, into the file `path`.

    A capstone's judge is looked up in the `measure.py` beside it, as with `<lab>.checks`.
    """
    seed = new_seed()
    exercises = tuple(_reseeded(exercise, seed) for exercise in lab.exercises)
    checks_file.write(dataclasses.replace(lab, exercises=exercises), path, constants)


def _reseeded(exercise: Exercise, seed: str) -> Exercise:
    """The exercise with the hidden cases of `seed` in the place of those that are drawn from another generator."""

    def cases(rng: np.random.Generator, constants: dict) -> Iterable[Case]:
        return exercise.cases(generator(seed, "hidden", exercise.name), constants)

    return dataclasses.replace(exercise, cases=cases)


def for_everyone(lab: Lab, student: str | None, tool: str) -> None:
    """ValueError for a personal variant: the tool grades one notebook for the whole class."""
    if student is not None:
        raise ValueError(
            f"{tool} grades the same notebook for everyone: release the variants of {lab.name} with --format plain, "
            "and grade them with `dca grade --variants`"
        )
