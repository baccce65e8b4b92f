"""The labs: their graders against wrong and right answers in the real sandbox, their variants, their notebooks."""

import copy
import itertools
import json
import math
import os

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from dca_lab.grading import lab_folder, source
from dca_lab.grading.exercise import generator, load_lab
from dca_lab.grading.judge import judge_exercise
from dca_lab.grading.key import replied
from dca_lab.grading.release import release
from dca_lab.grading.sandbox import Sandbox, available_levels
from dca_lab.grading.selftest import selftest

LABS = sorted(path.parent.name for path in lab_folder.LABS.glob("*/checks.py"))


def test_the_three_labs_are_there():
    assert {"cost", "pruning", "quantization"} <= set(LABS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LABS)
def test_no_wrong_answer_passes_and_no_right_one_fails(name):
    reasons = available_levels()
    if all(reasons.values()):
        pytest.skip(f"no sandbox works here: {reasons}")
    lab = load_lab(name)
    with Sandbox(**lab.sandbox) as sandbox:
        findings = selftest(lab, sandbox=sandbox, show_progress=False)
    assert len(findings) > 10 * len(lab.exercises), "too little was tried"
    assert not [str(one) for one in findings if one.status == "wrong"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", LABS)
def test_the_copy_runs_as_a_notebook_and_its_checks_teach(name, tmp_path):
    """Everything unwritten but the first exercise, which is wrong: no cell stops, and each check says what it sees."""
    lab = load_lab(name)
    path, mistake = release(lab, tmp_path, targets=False), lab.wrong[0]
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith(f"def {mistake.exercise}("):
            cell.source = mistake.source
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert f"{mistake.exercise}: {mistake.message}" in printed
    for other in lab.exercises[1:]:
        assert f"{other.name}: not written yet" in printed, printed


@pytest.mark.parametrize("name", LABS)
def test_another_variants_constant_gives_another_answer(name):
    """A function with a constant of one variant in it loses the exercise under every other variant."""
    lab = load_lab(name)
    variants = [
        dict(zip(lab.choices, values, strict=True)) for values in itertools.product(*lab.choices.values())
    ]
    solutions = {
        json.dumps(own): source.exercise_cells(source.build(lab, solution=True, constants=own))
        for own in variants
    }
    first = solutions[json.dumps(variants[0])]
    (personal,) = {
        name for cells in solutions.values() for name, text in cells.items() if text != first[name]
    }
    exercise = lab.exercise(personal)

    def points(function, constants):
        cases = exercise.draw(generator("a run", "hidden", personal), constants)
        return judge_exercise(
            exercise, cases, [replied(function, case.args) for case in cases], hidden=True
        ).fraction

    for own in variants:
        namespace = {"np": np, "torch": torch, "math": math}
        exec(solutions[json.dumps(own)][personal], namespace)
        assert points(namespace[personal], own) == 1, own
        for other in variants:
            if other != own:
                assert points(namespace[personal], other) == 0, (own, other)


@pytest.mark.parametrize("name", LABS)
def test_numbers_beyond_any_float_are_a_students_mistake(name):
    """An otherwise whole answer of the capstone with an integer that no float can hold: no points, and words."""
    lab = load_lab(name)
    (capstone,) = (one for one in lab.exercises if one.judge is not None)
    case = capstone.draw(generator("giant", capstone.name), lab.constants)[0]
    namespace = {"np": np, "torch": torch, "math": math}
    exec(source.exercise_cells(source.build(lab, solution=True))[capstone.name], namespace)
    answer = namespace[capstone.name](*copy.deepcopy(case.args))
    assert capstone.judge(copy.deepcopy(answer), case).fraction > 0

    def spoilt(tree, place):
        """The answer with [10**400, 0.5] in one place, and the rest as it was."""
        here, *rest = place
        return {**tree, here: spoilt(tree[here], rest) if rest else [10**400, 0.5]}

    def places(tree):
        return [
            (key, *rest)
            for key, value in tree.items()
            for rest in (places(value) if isinstance(value, dict) else [()])
        ]

    for place in places(answer):
        score = capstone.judge(spoilt(answer, place), case)
        assert score.fraction == 0 and score.message, place
