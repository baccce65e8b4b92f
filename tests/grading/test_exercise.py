"""Reading a lab's folder: what it gives, what it leaves alone, and what each mistake of an author is told."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dca_lab.grading import Case, Exercise, LabError, generator, load_lab, source
from dca_lab.grading.answers import collecting, renamed, right, wrong
from dca_lab.grading.exercise import public_cases

TINY = Path(__file__).parent / "tiny_lab"


@pytest.fixture
def lab_copy(tmp_path):
    """A copy of the tiny lab, to be damaged: `edit(file, old, new)`."""
    folder = tmp_path / "tiny_lab"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(file, old, new):
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return edit


def test_a_lab_is_read_whole():
    lab = load_lab(TINY)
    assert (lab.name, lab.title, lab.points, lab.constants) == ("tiny_lab", "Tiny", 6, {"width": 4})
    assert [exercise.name for exercise in lab.exercises] == ["double", "relu", "keep_few"]
    assert {answer.name for answer in lab.wrong_answers("relu")} >= {"absolute", "dropped"}
    assert [answer.message for answer in lab.right] == [""] * len(lab.right)
    assert lab.exercise("relu").points == 2
    with pytest.raises(KeyError, match="double, relu, keep_few"):
        lab.exercise("gelu")


def test_a_lab_leaves_the_process_as_it_was(lab_copy, monkeypatch):
    mine = object()
    monkeypatch.setitem(sys.modules, "measure", mine)
    path = list(sys.path)
    one = load_lab(TINY)
    other = load_lab(lab_copy("measure.py", "ERROR = 0.45", "ERROR = 0.7"))
    assert sys.modules["measure"] is mine and sys.path == path
    assert not {"checks", "wrong", "right"} & set(sys.modules)
    assert not (TINY / "__pycache__").exists()
    errors = [lab.exercise("keep_few").judge.__globals__["ERROR"] for lab in (one, other)]
    assert errors == [0.45, 0.7]  # `from measure import ...` found the file of its own folder
    assert one.digest != other.digest


def test_the_digest_depends_on_content_only(lab_copy):
    folder = lab_copy("wrong.py", "x**2", "x**2")
    assert load_lab(folder).digest == load_lab(TINY).digest
    (folder / "notes.txt").write_text("not a file of the lab", encoding="utf-8")
    assert load_lab(folder).digest == load_lab(TINY).digest


DAMAGES = {
    "checks.py": [
        ('Exercise("relu", points=2', 'Exercise("relu", points=0', "points must be above 0"),
        ('Exercise("relu", points=2', 'Exercise("relu", points=float("nan")', "points must be above 0"),
        ('Exercise("relu", points=2', 'Exercise("double", points=2', "two exercises named double"),
        ('Exercise("relu", points=2', 'Exercise("gelu", points=2', "absolute answers 'relu'"),
        ('Exercise("relu", points=2', 'Exercise("re lu", points=2', "named as its function"),
        ("oracle=relu_oracle", "oracle=relu_oracle, atol=-1.0", "atol must be 0 or above"),
        ("oracle=relu_oracle", "oracle=relu_oracle, seconds=0", "seconds must be above 0"),
        ("oracle=relu_oracle", "oracle=None", "either an oracle or a judge"),
        ("oracle=relu_oracle", "oracle=relu_oracle, judge=judge_sparse", "either an oracle or a judge"),
        ('CHOICES = {"width": (4, 6, 8)}', 'CHOICES = {"width": (6, 4, 8)}', "write the default"),
        ('CHOICES = {"width": (4, 6, 8)}', 'CHOICES = {"width": ()}', "values that it may have"),
        ('CHOICES = {"width": (4, 6, 8)}', "CHOICES = {}", "has no 'width'"),
        ('"width": (4, 6, 8)', '"width": (4, 6, 8), "depth": (1, 2)', "shows {{depth}} nowhere"),
        ("HELPERS = ()", 'HELPERS = ("os",)', "modules of dca_lab"),
        ('TITLE = "Tiny"', "", "does not define TITLE"),
        ("EXERCISES = (", "EXERCISES = (1,", "not an Exercise"),
        (
            "import torch",
            "import torch\nraise RuntimeError('no data')",
            "does not run: RuntimeError: no data",
        ),
        ("import torch", "import torch\nthis is no Python", "does not run: SyntaxError"),
    ],
    "wrong.py": [
        ('@wrong("relu"', '@wrong("gelu"', "absolute answers 'gelu'"),
        ("def wrong_sign", "def absolute", "two answers named absolute for relu"),
        ('"You squared: x * 2 is not x ** 2."', '" "', "needs a message"),
        ("def squared(x):\n    return", "squared = lambda x:", "does not run"),
    ],
    "lab.ipynb": [
        ("### BEGIN SOLUTION", "### solution", "comes twice"),
        ("### END SOLUTION", "### end", "### END SOLUTION is missing"),
        ("doubled = x * 2", "doubled = (x * 2", "is not Python"),
        ("def double(x)", "def twice(x)", "both list the same functions"),
        ("WIDTH = 4", "WIDTH = 5", "write the default, WIDTH = 4"),
        ("width of {{width}}", "width of {{length}}", "has no 'length'"),
        ("# {{width}}", "# {{length}}", "has no 'length'"),
        ('"exercise"', '"check"', "has a solution but not the tag"),
        ('"cells"', '"sells"', "not a notebook"),
    ],
}


@pytest.mark.parametrize(("file", "damage"), [(file, one) for file, many in DAMAGES.items() for one in many])
def test_an_authors_mistake_is_explained(lab_copy, file, damage):
    old, new, text = damage
    folder = lab_copy(file, old, new)
    with pytest.raises(LabError) as error:
        load_lab(folder)
    assert text in str(error.value)


@pytest.mark.parametrize("missing", ["lab.ipynb", "checks.py"])
def test_a_missing_file_is_named(lab_copy, missing):
    folder = lab_copy(missing, "", "")
    (folder / missing).unlink()
    with pytest.raises(LabError, match=missing):
        load_lab(folder)


def test_an_unknown_lab_is_told_what_there_is(tmp_path):
    with pytest.raises(LabError, match="no lab 'no_such_lab'"):
        load_lab("no_such_lab")
    with pytest.raises(LabError, match="no lab"):
        load_lab(tmp_path / "nothing")


def test_seeds_are_unrelated_and_scopes_do_not_run_together():
    draws = {
        generator(*scope).integers(0, 2**63)
        for scope in [(0,), ("0",), (b"0",), (0, "a"), (0, "a", "b"), (0, "ab"), ("0a",), (1,)]
    }
    assert len(draws) == 8


def test_cases_are_checked_when_they_are_drawn():
    def exercise(cases):
        return Exercise("f", 1, cases=cases, oracle=abs)

    rng = np.random.default_rng(0)
    assert exercise(lambda rng, constants: [Case((1,))]).draw(rng, {}) == [Case((1,))]
    for bad in ([], [1], [Case([1])]):
        with pytest.raises(LabError, match="exercise f: cases"):
            exercise(lambda rng, constants, bad=bad: bad).draw(rng, {})


def test_public_cases_are_the_same_every_time():
    exercise = load_lab(TINY).exercise("double")
    one, same = (public_cases(exercise, {"width": 6}) for _ in range(2))
    assert all((a.args[0] == b.args[0]).all() for a, b in zip(one, same, strict=True))
    assert one[0].args[0].shape == (6,)


def test_every_answer_is_the_function_that_it_names():
    lab = load_lab(TINY)
    for answer in (*lab.wrong, *lab.right):
        namespace = {"np": np}
        exec(source.solved(lab)[0].replace("check = ", "# "), namespace)
        exec(answer.source, namespace)
        assert namespace[answer.exercise].__code__.co_name == answer.exercise
        assert "@" not in answer.source.split("def ")[0]


def test_answers_that_hide_one_another_are_both_found():
    with collecting() as found:

        @wrong("f", "one")
        def same(x):
            return x

        @wrong("g", "two")
        def same(x):  # noqa: F811
            return x + 1

        @right("f")
        def again(x):
            return again(x - 1) if x else 0

    assert [(one.exercise, one.name, one.message) for one in found] == [
        ("f", "same", "one"),
        ("g", "same", "two"),
        ("f", "again", ""),
    ]
    namespace = {}
    exec(found[2].source, namespace)
    assert namespace["f"](3) == 0  # it calls itself by its old name
    assert same(1) == 2  # outside of a lab the function stays itself


def test_a_long_signature_and_decorators_on_several_lines_are_renamed():
    text = (
        "@wrong(\n    'f',\n    'def once(',\n)\ndef once(\n    x,\n    y=1,\n):\n    # once\n    return x\n"
    )
    assert renamed(text, "f") == "def f(\n    x,\n    y=1,\n):\n    # once\n    return x"


class TestSource:
    def test_solved_and_unsolved_differ_in_the_exercises_only(self):
        lab = load_lab(TINY)
        solved, unsolved = source.solved(lab), source.unsolved(lab)
        different = [
            index for index, pair in enumerate(zip(solved, unsolved, strict=True)) if len(set(pair)) == 2
        ]
        names = [solved[index].split("(")[0] for index in different]
        assert names == ["def double", "def relu", "def keep_few"]
        assert all("SOLUTION" not in cell for cell in solved + unsolved)
        assert (
            "    # 2. Negative values become zero.\n    raise NotImplementedError(" in unsolved[different[1]]
        )

    def test_one_exercise_is_replaced(self):
        lab = load_lab(TINY)
        cells = source.solved(lab, {"relu": "relu = abs"})
        assert "relu = abs" in cells and sum("torch.where" in cell for cell in cells) == 1
        with pytest.raises(KeyError, match="gelu"):
            source.solved(lab, {"gelu": ""})

    def test_constants_of_a_variant_are_filled_in(self):
        notebook = source.build(load_lab(TINY), solution=False, constants={"width": 8})
        text = json.dumps(notebook)
        assert "{{" not in text
        assert "a width of 8." in text
        assert "WIDTH = 8\\n" in text

    @pytest.mark.parametrize(
        ("line", "filled"),
        [
            ("BITS = 4  # {{bits}}", "BITS = 'w8'"),
            ("    x: int = 4 # {{bits}}", "    x: int = 'w8'"),
            ("print(f'{{x}} {{bits}}')", "print(f'{{x}} w8')"),
            ("# {{bits}} is said in words", "# w8 is said in words"),
        ],
    )
    def test_code_is_filled_by_line(self, line, filled):
        assert source.fill(line, {"bits": "w8"}, code=True) == filled

    def test_outputs_do_not_survive(self, lab_copy):
        outputs = '"outputs": [{"output_type": "stream", "name": "stdout", "text": "SECRET"}]'
        folder = lab_copy("lab.ipynb", '"outputs": []', outputs)
        assert "SECRET" not in json.dumps(source.build(load_lab(folder), solution=True))
