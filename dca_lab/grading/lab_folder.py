"""Reading a lab's folder: its modules are executed, its notebook is only read.

`measure.py`, `checks.py`, `wrong.py` and `right.py` are trusted code of the course. They are executed in this order,
each under a module name of its own, so that several labs live in one process. While they are executed, and only then,
a plain ``from measure import judge_size`` finds the module of the same folder; afterwards the plain names mean again
what they meant before. Hence such an import stands at the top of a file, not inside a function. ``print`` does
nothing in `wrong.py` and `right.py`: "it prints instead of returning" is a mistake that the grader replays.
What this is *not*: a way to read what a student sent; that is `notebook.py`, which executes nothing.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from dca_lab.grading import source
from dca_lab.grading.answers import Answer, collecting
from dca_lab.grading.exercise import Exercise, Lab, LabError

LABS = Path(__file__).resolve().parents[2] / "chapters" / "labs"
FILES = ("lab.ipynb", "measure.py", "checks.py", "wrong.py", "right.py")
_MODULES = ("measure", "checks", "wrong", "right")
_loading = threading.RLock()  # the plain names are the process's: one lab at a time


def read(lab: str | Path) -> Lab:
    """A lab by name (a folder of `chapters/labs`) or by its folder.

    Raises
    ------
    LabError
        A file is missing or says something impossible; the text names the file and what to change.
    """
    folder = _find(lab)
    digest = _digest(folder)
    modules, answers = _execute(folder, digest)
    checks = modules["checks"]
    for name in ("TITLE", "EXERCISES"):
        if not hasattr(checks, name):
            raise LabError(f"{folder / 'checks.py'} does not define {name}")
    loaded = Lab(
        name=folder.name,
        folder=folder,
        title=str(checks.TITLE),
        exercises=tuple(checks.EXERCISES),
        helpers=tuple(getattr(checks, "HELPERS", ())),
        choices={name: tuple(values) for name, values in getattr(checks, "CHOICES", {}).items()},
        wrong=tuple(answers["wrong"]),
        right=tuple(answers["right"]),
        digest=digest,
    )
    _verify(loaded)
    return loaded


def _find(lab: str | Path) -> Path:
    folder = Path(lab)
    if isinstance(lab, str) and re.fullmatch(r"[\w-]+", lab) and not (folder / "checks.py").is_file():
        folder = LABS / lab
    folder = folder.resolve()
    if not folder.is_dir():
        known = sorted(path.parent.name for path in LABS.glob("*/checks.py"))
        hint = f"the labs of this repository are {', '.join(known)}" if known else f"{LABS} has no labs"
        raise LabError(f"there is no lab {str(lab)!r}: {hint}; or give a lab's folder")
    for name in ("lab.ipynb", "checks.py"):
        if not (folder / name).is_file():
            raise LabError(f"{folder} is not a lab: {name} is missing")
    return folder


def _digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for name in FILES:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            whole.update(f"{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()


def _execute(folder: Path, digest: str) -> tuple[dict[str, ModuleType], dict[str, list[Answer]]]:
    modules: dict[str, ModuleType] = {}
    answers: dict[str, list[Answer]] = {}
    with _loading, _plain_names():
        for name in _MODULES:
            path = folder / f"{name}.py"
            answers[name] = []
            if not path.is_file():
                continue
            # From the text, not by the import system: no __pycache__ in the lab, and never a stale one.
            module = ModuleType(f"dca_lab_{re.sub(r'[^0-9A-Za-z]', '_', folder.name)}_{digest[:12]}_{name}")
            module.__file__ = str(path)
            if name in ("wrong", "right"):
                module.print = lambda *args, **kwargs: None
            sys.modules[module.__name__] = sys.modules[name] = module
            try:
                with collecting() as answers[name]:
                    code = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
                    exec(code, module.__dict__)
            except LabError:
                raise
            except Exception as error:
                raise LabError(f"{path} does not run: {type(error).__name__}: {error}") from error
            modules[name] = module
    return modules, answers


@contextmanager
def _plain_names() -> Iterator[None]:
    before = {name: sys.modules.pop(name, None) for name in _MODULES}
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _verify(lab: Lab) -> None:
    checks = lab.folder / "checks.py"
    for exercise in lab.exercises:
        if not isinstance(exercise, Exercise):
            raise LabError(f"{checks}: EXERCISES holds {exercise!r}, which is not an Exercise")
    names = [exercise.name for exercise in lab.exercises]
    if not names:
        raise LabError(f"{checks}: EXERCISES is empty")
    if twice := _twice(names):
        raise LabError(f"{checks}: there are two exercises named {twice}")
    for name in lab.helpers:
        if not (isinstance(name, str) and name.startswith("dca_lab.")):
            raise LabError(f"{checks}: HELPERS names modules of dca_lab, not {name!r}")
    for name, values in lab.choices.items():
        if not (name.isidentifier() and values):
            raise LabError(
                f"{checks}: CHOICES maps a name to the values that it may have, not {name!r}: {values!r}"
            )
    for file, answers in (("wrong.py", lab.wrong), ("right.py", lab.right)):
        for answer in answers:
            if answer.exercise not in names:
                raise LabError(
                    f"{lab.folder / file}: {answer.name} answers {answer.exercise!r}; "
                    f"the exercises are {', '.join(names)}"
                )
        if twice := _twice([f"{answer.name} for {answer.exercise}" for answer in answers]):
            raise LabError(f"{lab.folder / file}: there are two answers named {twice}")
    _verify_notebook(lab)


def _verify_notebook(lab: Lab) -> None:
    """LabError unless notebook and checks fit: the same exercises in the same order, a solution and known constants."""
    path, names, shown = lab.folder / "lab.ipynb", [], set()
    for number, cell in enumerate(source.read_notebook(lab.folder)["cells"]):
        where = f"{path}, cell {number}"
        marks = set(source.MARK.findall(cell["source"]))
        shown |= marks & set(lab.choices)
        if cell["cell_type"] != "code":
            if unknown := marks - set(lab.choices):
                raise LabError(
                    f"{where}: CHOICES in checks.py has no {unknown.pop()!r} (in a formula write {{ {{x}} }})"
                )
            continue
        source.fill(cell["source"], lab.constants, code=True)
        for line in cell["source"].split("\n"):
            if (found := source.CONSTANT.match(line)) and found["value"] != repr(
                lab.constants[found["name"]]
            ):
                raise LabError(f"{where}: write the default, {found['left']}{lab.constants[found['name']]!r}")
        inside = source.regions(cell["source"])[1]
        if "exercise" not in source.tags(cell):
            if inside:
                raise LabError(f"{where} has a solution but not the tag `exercise`")
            continue
        if not any(line.strip() for line in inside):
            raise LabError(f"{where}: an exercise has its solution between {source.BEGIN} and {source.END}")
        names.append(source.function_name(cell, where))
    asked = [exercise.name for exercise in lab.exercises]
    if names != asked:
        raise LabError(
            f"{path} has the exercises {', '.join(names) or 'none'}; checks.py has {', '.join(asked)}: "
            "both list the same functions in the same order"
        )
    if hidden := set(lab.choices) - shown:
        raise LabError(
            f"{path} shows {{{{{sorted(hidden)[0]}}}}} nowhere: a student must see each constant of CHOICES"
        )


def _twice(names: list[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)
