"""A lab and its exercises: what is asked, how cases are drawn, what is worth how many points.

A lab is a folder. Its `checks.py` defines

    TITLE = "Quantization"
    EXERCISES = (Exercise("affine_params", points=2, cases=..., oracle=...), ...)
    HELPERS = ()                   # dotted modules of dca_lab that students may import while they are graded
    CHOICES = {"bits": (4, 3)}     # constants that differ between personal variants; the first is the default

beside `lab.ipynb` (the notebook with its solutions), `wrong.py` and `right.py` (known answers) and, where a capstone
is measured, `measure.py` (given to students, free of answers). `lab_folder.py` reads the folder. What this is *not*:
a judge. Comparing a student's answer with the oracle's is `judge.py`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dca_lab.grading.answers import Answer

MOST_TIMEOUTS = 3  # of one exercise in one phase: then its other cases are not tried
PUBLIC_SEED = (
    0  # of the visible cases: the same for everyone, so that a student can talk about "the third case"
)


class LabError(ValueError):
    """A lab's folder is not as it must be; the text says which file to change, and how."""


@dataclass(frozen=True)
class Case:
    """One call of a student's function.

    Attributes
    ----------
    args : tuple
        The positional arguments: tensors, arrays, numbers, text, lists and dicts of these.
    held : dict
        What only the judge sees, such as held-out data.
    """

    args: tuple
    held: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """What an answer earns: a share from 0 to 1, a message for the student, and the recognised mistake's name."""

    fraction: float
    message: str
    mistake: str | None = None


@dataclass(frozen=True)
class Exercise:
    """One function that a student writes.

    Attributes
    ----------
    name : str
        The function's name.
    points : float
        What it is worth when all hidden cases are right.
    cases : Callable
        ``cases(rng, constants)`` draws fresh cases, the corner cases included. `constants` are the variant's.
    oracle : Callable, optional
        Gives the expected value from copies of the arguments. An exception that it raises is the expected outcome.
    judge : Callable, optional
        Instead of an oracle: ``judge(answer, case)`` measures the answer. A function of the lab's `measure.py`.
    rtol, atol : float
        ``|answer - expected| <= atol + rtol |expected|`` counts as equal.
    seconds : float
        Wall time that one call may take.
    keeps_arguments : bool
        Whether changing an argument in place is a mistake.
    """

    name: str
    points: float
    cases: Callable[[np.random.Generator, dict], Iterable[Case]]
    oracle: Callable[..., Any] | None = None
    judge: Callable[[Any, Case], Score] | None = None
    rtol: float = 0.0
    atol: float = 0.0
    seconds: float = 10.0
    keeps_arguments: bool = True

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise LabError(f"an exercise is named as its function, not {self.name!r}")
        if not (math.isfinite(self.points) and self.points > 0):
            raise LabError(f"exercise {self.name}: points must be above 0, not {self.points}")
        if (self.oracle is None) == (self.judge is None):
            raise LabError(f"exercise {self.name}: give either an oracle or a judge")
        for name in ("rtol", "atol"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise LabError(f"exercise {self.name}: {name} must be 0 or above, not {getattr(self, name)}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise LabError(f"exercise {self.name}: seconds must be above 0, not {self.seconds}")

    def draw(self, rng: np.random.Generator, constants: dict) -> list[Case]:
        """Fresh cases as a list; LabError when there are none, or one that is not a Case."""
        drawn = list(self.cases(rng, dict(constants)))
        if not drawn:
            raise LabError(f"exercise {self.name}: cases() gave no case")
        for case in drawn:
            if not (isinstance(case, Case) and isinstance(case.args, tuple)):
                raise LabError(f"exercise {self.name}: cases() must give Case((argument, ...)), not {case!r}")
        return drawn


@dataclass(frozen=True)
class Lab:
    """A lab as `load_lab` reads it; `digest` is the sha256 over its files."""

    name: str
    folder: Path
    title: str
    exercises: tuple[Exercise, ...]
    helpers: tuple[str, ...]
    choices: dict[str, tuple]
    wrong: tuple[Answer, ...]
    right: tuple[Answer, ...]
    digest: str

    @property
    def files(self) -> tuple[Path, ...]:
        """What students are given beside the notebook, and may import: ``measure.py``, where there is one."""
        path = self.folder / "measure.py"
        return (path,) if path.is_file() else ()

    @property
    def sandbox(self) -> dict[str, Any]:
        """What a `Sandbox` for this lab is opened with. A lab whose notebook trains needs the optimizers loaded."""
        text = (self.folder / "lab.ipynb").read_text(encoding="utf-8")
        return {"helpers": self.helpers, "files": self.files, "optimizers": "torch.optim" in text}

    def exercise(self, name: str) -> Exercise:
        """The exercise of that name; KeyError lists those there are."""
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        raise KeyError(
            f"{self.name} has no exercise {name!r}: {', '.join(one.name for one in self.exercises)}"
        )

    def wrong_answers(self, exercise: str) -> tuple[Answer, ...]:
        """The typical mistakes of one exercise, in the order of `wrong.py`."""
        return tuple(answer for answer in self.wrong if answer.exercise == exercise)

    @property
    def constants(self) -> dict[str, Any]:
        """The default of every constant: what a lab without personal variants uses."""
        return {name: values[0] for name, values in self.choices.items()}

    @property
    def points(self) -> float:
        """The points of all exercises together."""
        return math.fsum(exercise.points for exercise in self.exercises)


def generator(seed: int | bytes | str, *scope: str) -> np.random.Generator:
    """Random numbers for one purpose: another seed, run, phase or exercise gives unrelated ones.

    Examples
    --------
    >>> one, same, other = (generator(0, "public", name).random() for name in ("relu", "relu", "gelu"))
    >>> one == same, one == other
    (True, False)
    """
    import numpy as np

    kind = type(seed).__name__
    parts = [kind, seed if isinstance(seed, bytes) else str(seed), *scope]
    encoded = [part if isinstance(part, bytes) else part.encode() for part in parts]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in encoded)).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def public_cases(exercise: Exercise, constants: dict) -> list[Case]:
    """The visible cases, the same whenever and by whomever they are drawn."""
    return exercise.draw(generator(PUBLIC_SEED, "public", exercise.name), constants)


def hidden_cases(exercise: Exercise, constants: dict, seed: str, digest: str) -> list[Case]:
    """The cases that carry the points: of one run, by its secret `seed`, and of one file, by the file's `digest`.

    Nobody else meets them, and neither does the next attempt: who learns some, by whatever leak, has learnt nothing. The
    same file meets them again, so partners are graded alike and a grade can be repeated.
    """
    return exercise.draw(generator(seed, "hidden", digest, exercise.name), constants)


def load_lab(lab: str | Path) -> Lab:
    """Read a lab by its name in `chapters/labs` or by its folder: see `lab_folder.read`."""
    from dca_lab.grading import lab_folder

    return lab_folder.read(lab)
