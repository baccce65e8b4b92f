"""One submission graded, in the real sandbox and in the stand-in: points, outcomes, words, and what stays secret."""

import json
from dataclasses import replace

import pytest
import torch
from grading_stand_in import DOUBLE, FEW, RELU, SOLVED, TINY, StandIn

from dca_lab.grading import load_lab
from dca_lab.grading.exercise import MOST_TIMEOUTS, hidden_cases, public_cases
from dca_lab.grading.explained import carried
from dca_lab.grading.grade import grade_submission
from dca_lab.grading.notebook import Cells, read_cells
from dca_lab.grading.sandbox import Sandbox, SandboxError, available_levels


@pytest.fixture(scope="module")
def lab():
    return load_lab(TINY)


@pytest.fixture(scope="module")
def sandbox():
    if all(available_levels().values()):
        pytest.skip(f"no sandbox works here: {available_levels()}")
    with Sandbox() as opened:
        yield opened


def outcomes(record):
    return {name: entry["outcome"] for name, entry in record["exercises"].items()}


def grade(lab, cells, sandbox=None, seed="secret", **more):
    cells = ["import math\nimport numpy as np\nimport torch", *cells]
    return grade_submission(lab, cells, sandbox or StandIn(), seed=seed, **more)


def test_a_right_notebook_earns_everything(lab, sandbox):
    record = grade(lab, SOLVED, sandbox, student="ann", digest="d")
    assert record["score"] == record["out_of"] == 6 and record["outcome"] == "graded"
    assert set(outcomes(record).values()) == {"right"}
    assert all(entry["public"]["passed"] for entry in record["exercises"].values())
    assert (record["student"], record["digest"], record["lab_digest"]) == ("ann", "d", lab.digest)
    assert record["level"] == sandbox.level and record["constants"] == {"width": 4}
    json.dumps(record, allow_nan=False)


def test_an_exercise_that_kills_its_process_costs_itself_only(lab, sandbox):
    deadly = "import os\ndef double(x):\n    os._exit(0)\n"
    record = grade(lab, [deadly, RELU, FEW], sandbox)
    assert outcomes(record) == {"double": "crashed", "relu": "right", "keep_few": "right"}
    assert record["score"] == 5


def test_an_endless_exercise_costs_itself_only(lab, sandbox):
    quick = replace(lab, exercises=tuple(replace(one, seconds=0.3) for one in lab.exercises))
    record = grade(quick, ["def double(x):\n    while True: pass\n", RELU, FEW], sandbox)
    assert outcomes(record) == {"double": "timeout", "relu": "right", "keep_few": "right"}


def test_a_cell_that_fails_is_named_with_its_line(lab, sandbox):
    record = grade(lab, ["def double(x):\n    return (2 * x\n", "1 / 0", RELU, FEW], sandbox)
    entry = record["exercises"]["double"]
    assert entry["outcome"] == "missing" and record["score"] == 5
    assert "code cell 2" in entry["message"] and "SyntaxError" in entry["message"]
    assert [(error["cell"], error["exception"]) for error in record["errors"]] == [
        (1, "SyntaxError"),
        (2, "ZeroDivisionError"),
    ]  # counted from 0


def test_a_renamed_function_is_suggested(lab):
    record = grade(lab, [DOUBLE.replace("double", "doubles"), RELU, FEW])
    assert "`doubles`" in record["exercises"]["double"]["message"]
    record = grade(lab, [RELU, FEW])
    assert "deleted or renamed" in record["exercises"]["double"]["message"]


@pytest.mark.parametrize(
    "body, outcome",
    [
        ("raise NotImplementedError('later')", "not written yet"),
        ("raise KeyError('x')", "raised"),
        ("return x", "wrong"),
        ("return None", "wrong"),
        ("x *= 2; return x", "wrong"),
    ],
)
def test_outcomes(lab, body, outcome):
    record = grade(lab, [f"def double(x):\n    {body}\n", RELU, FEW])
    assert outcomes(record) == {"double": outcome, "relu": "right", "keep_few": "right"}
    assert record["score"] == 5 and record["exercises"]["double"]["message"]


def test_a_capstone_earns_a_part(lab):
    half = FEW.replace("0.7", "0.5")
    record = grade(lab, [DOUBLE, RELU, half])
    entry = record["exercises"]["keep_few"]
    assert entry["outcome"] == "partial" and entry["points"] == pytest.approx(3 * (3 * 0.5 - 1))


def test_a_typical_mistake_is_named(lab):
    wrong = lab.wrong_answers("relu")[0]
    record = grade(lab, [DOUBLE, wrong.source, FEW])
    entry = record["exercises"]["relu"]
    assert entry["mistake"] == wrong.name and entry["message"] == wrong.message and entry["points"] == 0


def test_cases_are_public_or_drawn_from_seed_and_file(lab):
    first, other, again, file = StandIn(), StandIn(), StandIn(), StandIn()
    grade(lab, SOLVED, first, seed="one", digest="a", student="ann")
    grade(lab, SOLVED, other, seed="two", digest="a", student="ann")
    grade(lab, SOLVED, again, seed="one", digest="a", student="her partner")
    grade(lab, SOLVED, file, seed="one", digest="b", student="ann")

    def inputs(sandbox):
        return [args[0] for name, args, _ in sandbox.said if name == "double"]

    shown = [case.args[0] for case in public_cases(lab.exercise("double"), lab.constants)]
    drawn = hidden_cases(lab.exercise("double"), lab.constants, "one", "a")
    size = len(shown)
    assert all(map(torch.equal, inputs(first)[:size], shown)) and all(
        map(torch.equal, inputs(other)[:size], shown)
    )
    assert all(map(torch.equal, inputs(first)[size:], [case.args[0] for case in drawn]))
    assert all(map(torch.equal, inputs(first), inputs(again)))
    for different in (other, file):  # another run, another attempt, another student
        assert not torch.equal(inputs(first)[size], inputs(different)[size])
    assert {seconds for name, _, seconds in first.said if name == "keep_few"} == {5.0}


def test_constants_of_a_variant_reach_the_cases(lab):
    sandbox = StandIn()
    record = grade(lab, SOLVED, sandbox, constants={"width": 8})
    assert sandbox.said[0][1][0].shape == (8,) and record["constants"] == {"width": 8}


@pytest.mark.parametrize("kind, most", [("Timeout", MOST_TIMEOUTS), ("Crashed", 1), ("Refused", 5)])
def test_what_is_hopeless_is_not_tried_to_the_end(lab, kind, most):
    sandbox = StandIn()
    cells = [f"class {kind}(Exception): pass", f"def double(x):\n    raise {kind}\n"]
    record = grade(lab, cells, sandbox)
    assert sum(name == "double" for name, *_ in sandbox.said) == 2 * most  # in both phases
    assert record["exercises"]["double"]["outcome"] == kind.lower()


def test_an_answer_that_is_too_large_is_asked_for_once(lab, sandbox):
    bomb = (
        "from dca_lab.grading import values\nhonest, armed = values.encode, []\n"
        "def encode(answer):\n    return b'not a value' if armed.pop() else honest(answer)\n"
        "values.encode = encode\narmed += [False] * 9\n"
        "def double(x):\n    armed.append(True)\n    return x\n"
    )
    with sandbox.open([bomb]) as student:
        assert (student.call("double", 1).kind, student.call("double", 1).ended) == ("refused", True)
    record = grade(lab, [bomb, RELU, FEW], sandbox)
    assert outcomes(record) == {"double": "refused", "relu": "right", "keep_few": "right"}


def test_a_stub_below_the_solution_is_named(lab):
    stub = "def double(x):\n    raise NotImplementedError\n"
    record = grade(lab, [DOUBLE, RELU, stub, FEW])
    assert record["notes"] == ["`double` is defined in code cells 2 and 4; the last one counts"]
    assert grade(lab, [stub, DOUBLE, RELU, FEW])["notes"] == []  # all points: nothing to explain


def test_a_cell_that_carries_weights_is_named_and_no_honest_one(lab):
    weights = f"WEIGHTS = {[i / 7 for i in range(1000)]}\n"
    record = grade(lab, [weights + DOUBLE, RELU, FEW])
    assert record["score"] == 6  # a note judges nothing
    assert record["notes"] == [
        "code cell 2 holds 1,001 typed numbers: a person should look where they come from"
    ]
    packed = f"import base64\nWEIGHTS = base64.b85decode({'QUJDRA' * 600!r})\n"
    assert "3,600 characters of packed text" in grade(lab, [packed + DOUBLE, RELU, FEW])["notes"][0]
    split = "WEIGHTS = (\n" + "".join(f"    '{'QUJDRA' * 12}'\n" for _ in range(50)) + ")\n"
    assert "packed text" in grade(lab, [split + DOUBLE, RELU, FEW])["notes"][0]
    for solved in sorted((TINY.parents[2] / "chapters" / "labs").glob("*/lab.ipynb")):
        assert list(carried(read_cells(solved.read_bytes()))) == [], solved


def test_nobody_types_while_this_is_graded(lab, sandbox):
    record = grade(
        lab, ["size = input('size? ')", "def double(x):\n    return input() * x\n", RELU, FEW], sandbox
    )
    entry = record["exercises"]["double"]
    for text in (record["errors"][0]["text"], entry["message"], entry["public"]["message"]):
        assert "nobody can type while this is graded: use a constant" in text


def test_nothing_that_the_function_says_in_the_hidden_phase_is_shown(lab, sandbox):
    tell = "    globals()[f'doubled_LEAK{float(x.sum())}'] = double\n    print('LEAK', x)\n"
    cells = [
        f"def double(x):\n{tell}    raise ValueError(f'LEAK {{x}}')\n",
        "def relu(x):\n    return x - LEAK\n",
    ]
    for place in (sandbox, StandIn()):
        record = grade(lab, cells, place)
        for entry in record["exercises"].values():
            del entry["public"]
        assert "LEAK" not in json.dumps(record)


def test_a_notebook_of_another_lab_is_said_to_be_one(lab):
    record = grade_submission(lab, Cells(SOLVED, ["a note"], "pruning"), StandIn(), seed="s")
    assert record["notes"][0] == "a note" and "lab pruning" in record["notes"][1] and record["score"] == 6
    record = grade(lab, ["def sparsity(w):\n    return 0\n"])
    assert "another lab" in record["notes"][0] and set(outcomes(record).values()) == {"missing"}


def test_a_notebook_with_another_variants_constants_is_said_to_be_one(lab):
    for width, said in ((4, []), (8, ["other constants"]), ("[" * 500, ["other constants"])):
        made = {"dca_lab": {"lab": lab.name, "variant": {"constants": {"width": width}, "student": "ann"}}}
        tree = {"cells": [{"cell_type": "code", "source": text} for text in SOLVED], "metadata": made}
        cells = read_cells(json.dumps(tree).encode())
        notes = grade_submission(lab, cells, StandIn(), seed="s", constants={"width": 4})["notes"]
        assert len(notes) == len(said) and all(text in note for text, note in zip(said, notes, strict=True))
    for broken in (
        {"dca_lab": []},
        {"dca_lab": {"variant": 3}},
        {"dca_lab": {"variant": {"constants": [4]}}},
        7,
    ):
        assert read_cells(json.dumps(tree | {"metadata": broken}).encode()).constants is None


def test_an_error_of_the_grader_costs_one_exercise_and_tells_no_values(lab):
    def broken(rng, constants):
        raise RuntimeError("hidden: 0.1234")

    exercises = (replace(lab.exercises[0], cases=broken), *lab.exercises[1:])
    record = grade(replace(lab, exercises=exercises), SOLVED)
    assert outcomes(record) == {"double": "grader error", "relu": "right", "keep_few": "right"}
    assert record["outcome"] == "grader error" and "0.1234" not in json.dumps(record)
    assert "RuntimeError at test_grade.py:" in record["exercises"]["double"]["message"]


def test_a_broken_sandbox_is_not_the_students_fault(lab):
    with pytest.raises(SandboxError):
        grade(lab, ["BREAK THE SANDBOX"])
