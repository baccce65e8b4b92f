"""A lab for otter-grader: what students get, and the `autograder.zip` that ``otter run`` and ``otter grade`` take.

    OUT/student/      the notebook, its checks, and tests/ with the visible cases: ``otter check`` runs them
    OUT/autograder/   autograder.zip, made by ``otter generate``, with the hidden cases

The tests are Python functions (``OK_FORMAT = False``), since otter's default format compares what is printed, so that a
stray print costs points. A test of otter passes or fails: the partial credit of a capstone is therefore cut into
`STEPS` equal tests, and rounded down to one of them. A notebook that ends its kernel gets no result from otter.
What this is *not*: the verdict that counts. In otter the student's code runs beside the checks and can read and change
them; use this for exchange and authoring, and `dca grade` for grades.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dca_lab.grading.exercise import Exercise, Lab
from dca_lab.grading.exports import for_everyone, write_hidden
from dca_lab.grading.exports.package import REQUIREMENTS, copy_package

STEPS = 20  # of partial credit
TEST = '''"""Exercise {name}, judged as in `dca grade`."""

from otter.test_files import test_case

from dca_lab.grading.exports.beside import earned

OK_FORMAT = False
name = {name!r}
points = None  # each test has its own


@test_case(name="{name}: visible cases", points=0)
def visible(env):
    score = earned({lab!r} + ".checks", name, env)
    assert score.fraction >= 1, score.message
'''
HIDDEN = """

known = []  # the function is called once, not for each step of the partial credit


def reaches(share):
    def test(env):
        if not known:
            known.append(earned({lab!r} + ".hidden", name, env))
        assert known[0].fraction >= share - 1e-9, known[0].message

    return test


for step in range(1, {steps} + 1):
    share = step / {steps}
    case = test_case(name=f"{name}: {{share:.0%}} of the hidden cases", points={points} / {steps}, hidden=True)
    globals()[f"hidden_{{step}}"] = case(reaches(share))
del case
"""


def release(lab: Lab, out: Path, *, constants: dict | None, student: str | None, targets: bool) -> Path:
    """Write both folders; the path of the student's notebook."""
    from dca_lab.grading.release import release as release_plain

    for_everyone(lab, student, "otter")
    notebook = release_plain(lab, out / "student", constants=constants, targets=targets)
    _write_tests(lab, out / "student" / "tests", hidden=False)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for path in notebook.parent.iterdir():
            if path.is_file() and path.suffix != ".ipynb":
                shutil.copyfile(path, folder / path.name)
        write_hidden(lab, folder / f"{lab.name}.hidden", constants)
        copy_package(
            folder
        )  # otter's container does not have it; installed elsewhere, the installed one is used
        files = sorted(path.name for path in folder.iterdir())
        _write_tests(lab, folder / "tests", hidden=True)
        (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")
        zipped = (out / "autograder" / "autograder.zip").resolve()
        zipped.parent.mkdir(parents=True, exist_ok=True)
        _otter("generate", "--tests-dir", "tests", "--output-path", str(zipped), *files, folder=folder)
    return notebook


def _write_tests(lab: Lab, folder: Path, *, hidden: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for exercise in lab.exercises:
        text = TEST + HIDDEN if hidden else TEST
        fields: dict[str, Any] = {"lab": lab.name, "name": exercise.name, "points": float(exercise.points)}
        path = folder / f"{exercise.name}.py"
        path.write_text(text.format(**fields, steps=_steps(exercise)), encoding="utf-8")


def _steps(exercise: Exercise) -> int:
    return 1 if exercise.judge is None else STEPS


def _otter(*arguments: str, folder: Path) -> None:
    command = [sys.executable, "-m", "otter", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    if "No module named otter" in done.stderr:
        raise ValueError("otter-grader is not installed here: pip install otter-grader")
    if done.returncode:
        raise ValueError(f"otter {arguments[0]} failed: {done.stderr.strip()[-1000:]}")
