"""Whether a grade can be trusted: points that attacks gained, wrong answers that passed, right ones that did not.

    unearned   points that a hostile notebook got for the exercise that it does not solve, over all attacks
    caught     wrong notebooks that lost what they must lose, and nothing else
    punished   right notebooks that lost a point

The attacks are those of the tests (`tests/grading/attacks`), under each level of the sandbox that works here. The
wrong and right notebooks are the ones of `dca lab test`, made from the `wrong.py` and `right.py` of the three labs.
What this is *not*: hostile files and archives, which the tests try in whole classes.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.common import Goal, failure, goals_table
from bench.grading.work import FOLDER, tiny_lab
from dca_lab.grading import load_lab
from dca_lab.grading.exercise import Lab, public_cases
from dca_lab.grading.grade import GRADER_ERROR, grade_submission
from dca_lab.grading.sandbox import Limits, Sandbox, available_levels
from dca_lab.grading.sandbox.levels import LEVELS
from dca_lab.grading.selftest import compared
from dca_lab.grading.trials import trials

TITLE = "Grading: attacks, wrong answers, right answers"
LABS = ("cost", "pruning", "quantization")
TESTS = FOLDER.parent
LIMITS = Limits(
    cpu_seconds=8, wall_seconds=8, cell_seconds=2, memory=400 << 20, file_bytes=8 << 20, files=300
)


@contextmanager
def _attacks() -> Iterator[tuple[dict[str, list[Any]], Any]]:
    """The tests' attacks by kind, and the module that watches them; their folder is importable only here."""
    sys.path.insert(0, str(TESTS))
    try:
        package = importlib.import_module("attacks")
        modules = {
            info.name: importlib.import_module(f"attacks.{info.name}")
            for info in pkgutil.iter_modules(package.__path__)
        }
    finally:
        sys.path.remove(str(TESTS))
    found = {name: module.ATTACKS for name, module in modules.items() if hasattr(module, "ATTACKS")}
    yield found, modules["watching"]


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each level of the sandbox, with all attacks, and one for each lab, solved with `seeds` seeds."""
    rows = []
    for level, reason in available_levels().items():
        row: dict[str, Any] = {"level": level}
        try:
            if reason:
                raise RuntimeError(reason)
            row |= attacked(level, quick)
        except Exception as error:
            row["error"] = failure(error)
        rows.append(row)
        tick(level)
    for lab in [tiny_lab()] if quick else map(load_lab, LABS):
        row = {"lab": lab.name}
        try:
            row |= answered(lab, seeds)
        except Exception as error:
            row["error"] = failure(error)
        rows.append(row)
        tick(lab.name)
    return rows


def attacked(level: str, quick: bool = False) -> dict[str, Any]:
    """Every attack (with `quick` one of each kind), graded in one sandbox: what it gained, and whether that was seen."""
    row: dict[str, Any] = {"attacks": 0, "unearned": 0.0, "grader_errors": 0, "gained": []}
    with _attacks() as (kinds, watching), tempfile.TemporaryDirectory(prefix="bench-attacks-") as top:
        lab = watching.observed(tiny_lab(), [])
        visible = public_cases(lab.exercise("double"), lab.constants)
        known = {_digest(case): (2 * case.args[0]).tolist() for case in visible}
        places = {name: f"{top}/{name}" for name in ("results", "submissions")}
        places |= {"lab": str(lab.folder), "package": str(Path(sys.modules["dca_lab"].__file__).parent)}
        places |= {"mark": f"mark-{secrets.token_hex(6)}", "known": known}
        with Sandbox(level=level, limits=LIMITS, **lab.sandbox) as sandbox:
            for attack in [one for kind in kinds.values() for one in (kind[:1] if quick else kind)]:
                cells = [f"PLACES = {places!r}\n", *attack.cells]
                record = grade_submission(lab, cells, sandbox, seed=secrets.token_hex(16))
                gain = record["exercises"]["double"]["points"] - attack.most
                row["attacks"] += 1
                row["grader_errors"] += record["outcome"] == GRADER_ERROR
                if gain > 0:
                    row["unearned"] += gain
                    row["gained"].append(attack.name)
    return row


def _digest(case: Any) -> str:
    return hashlib.sha256(case.args[0].numpy().tobytes()).hexdigest()


def answered(lab: Lab, seeds: int) -> dict[str, Any]:
    """The notebooks of the lab's self-test in the best sandbox: how many, and which came out otherwise than they must."""
    row: dict[str, Any] = {"wrong": 0, "caught": 0, "right": 0, "punished": 0, "surprises": []}
    with Sandbox(**lab.sandbox) as sandbox:
        for trial in trials(lab, seeds):
            constants = {**lab.constants, **trial.constants}
            record = grade_submission(lab, trial.cells, sandbox, seed=trial.seed, constants=constants)
            as_it_must = next(compared(trial, record)).status == "ok"
            # where the tried exercise is not to lose anything, others were left out, or nothing was
            is_wrong = trial.exercise in trial.loses or len(trial.loses) == len(lab.exercises)
            row["wrong" if is_wrong else "right"] += 1
            row["caught"] += is_wrong and as_it_must
            row["punished"] += not is_wrong and not as_it_must
            if not as_it_must:
                row["surprises"].append(trial.check)
    return row


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return len(LEVELS) + (1 if quick else len(LABS))


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """No point unearned, every wrong answer caught, no right one punished.

    Examples
    --------
    >>> rows = [{"level": "landlock", "attacks": 9, "unearned": 0.0},
    ...     {"lab": "tiny", "wrong": 7, "caught": 6, "right": 2, "punished": 0}]
    >>> [(goal.what, goal.verdict) for goal in goals(rows)][:2]
    [('unearned points, 9 attacks, landlock', 'met'), ('wrong answers not caught, of 7', 'NOT MET')]
    """
    found = []
    for row in (row for row in rows if "level" in row):
        what = f"unearned points, {row.get('attacks', 'no')} attacks, {row['level']}"
        found.append(Goal(what, row.get("unearned"), "<=", 0, digits=1))
    labs = [row for row in rows if "lab" in row]
    done = not any("error" in row for row in labs)
    wrong, caught, right, punished = (
        sum(row.get(name, 0) for row in labs) for name in ("wrong", "caught", "right", "punished")
    )
    missed = Goal(
        f"wrong answers not caught, of {wrong}", wrong - caught if done else None, "<=", 0, digits=0
    )
    unjust = Goal(f"right answers punished, of {right}", punished if done else None, "<=", 0, digits=0)
    return [*found, missed, unjust]


def report(rows: list[dict[str, Any]]) -> str:
    """The rows and the goals."""
    levels = [
        [
            row["level"],
            *(
                [row["error"]]
                if "error" in row
                else [row["attacks"], row["unearned"], ", ".join(row["gained"])]
            ),
        ]
        for row in rows
        if "level" in row
    ]
    labs = [
        [
            row["lab"],
            *(
                [row["error"]]
                if "error" in row
                else [
                    f"{row['caught']} of {row['wrong']}",
                    f"{row['punished']} of {row['right']}",
                    "; ".join(row["surprises"]),
                ]
            ),
        ]
        for row in rows
        if "lab" in row
    ]
    first = tabulate(levels, ["sandbox", "attacks", "unearned points", "by"], disable_numparse=True)
    second = tabulate(labs, ["lab", "wrong caught", "right punished", "otherwise"], disable_numparse=True)
    return f"{first}\n\n{second}\n\n{goals_table(goals(rows))}"
