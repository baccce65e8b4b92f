"""The visible checks as a student meets them: the cells of a notebook, run where its .checks file lies."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dca_lab.grading import checks_file, lab_checks, load_lab, source
from dca_lab.grading.public import call
from dca_lab.grading.release import release

TINY = load_lab(Path(__file__).parent / "tiny_lab")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return release(TINY, tmp_path_factory.mktemp("released"), targets=False).parent


@pytest.fixture
def notebook(released, monkeypatch, capsys):
    """Run the cells of the solved notebook with some exercises replaced; gives the namespace and what was printed."""
    monkeypatch.chdir(released)

    def run(more="", **replace):
        namespace = {"__name__": "__main__"}
        cells = [cell for cell in source.solved(TINY, replace) if "matplotlib" not in cell]
        for number, cell in enumerate([*cells, more]):
            exec(compile(cell, f"<cell {number}>", "exec"), namespace)
        return namespace, capsys.readouterr().out

    return run


def test_all_pass(notebook):
    _, printed = notebook()
    assert printed.splitlines() == [
        "double: all 5 visible cases pass (1 point if the hidden ones do too)",
        "relu: all 3 visible cases pass (2 points if the hidden ones do too)",
        "keep_few: all 2 visible cases pass (3 points if the hidden ones do too). "
        "Two thirds of the weights are zero, and the outputs stay near.",
    ]


@pytest.mark.parametrize("known", [*TINY.wrong, *TINY.right], ids=lambda one: f"{one.exercise}-{one.name}")
def test_known_answers(notebook, known):
    namespace, printed = notebook(f"passed = check({known.exercise!r})", **{known.exercise: known.source})
    (line,) = {line for line in printed.splitlines() if line.startswith(f"{known.exercise}: ")}
    assert namespace["passed"] is (known in TINY.right)
    assert known.message in line if known in TINY.wrong else "visible cases pass" in line


BROKEN = {
    "raise NotImplementedError('write it')": "double: not written yet.",
    "return nothing": "it raised NameError in line 2: name 'nothing' is not defined.",
    "return helper(x)": "it raised ZeroDivisionError in line 5: division by zero.",
    "pass": "is there a `return`?",
    "print(2 * x)": "is there a `return`?",
    "import sys; sys.exit(1)": "the process ended during the call",
    "return torch.nn.Linear(1, 1)": "return arrays, numbers or text, not Module",
    "raise BaseException('odd')": "it raised BaseException in line 2: odd.",
    "raise Silent": "it raised Silent in line 2.",
    "return double(x)": "it raised RecursionError",
    "return Liar()": "cannot be sent",
    "return 2 * x.numpy().astype(complex)": "cannot be sent",
}
HELPERS = """

def helper(x):
    return 1 / 0

class Silent(Exception):
    def __str__(self):
        raise RuntimeError

class Liar:
    def __eq__(self, other):
        return True
    def __getattr__(self, name):
        raise SystemError
"""


@pytest.mark.parametrize(("body", "said"), BROKEN.items())
def test_student_errors_are_said_and_do_not_stop_the_notebook(notebook, body, said):
    namespace, printed = notebook("passed = check('double')", double=f"def double(x):\n    {body}{HELPERS}")
    assert namespace["passed"] is False
    assert said in printed
    assert "relu: all 3 visible cases pass" in printed


@pytest.mark.parametrize(
    ("cell", "said"),
    [("", "there is no function `double` yet"), ("double = 3", "`double` is not a function but a int")],
)
def test_a_function_that_is_none(notebook, cell, said):
    assert said in notebook(double=cell)[1]


def test_a_slow_function_that_is_not_to_be_interrupted():
    def stubborn(x):
        try:
            time.sleep(0.2)
        except BaseException:
            return x

    assert call(stubborn, (1,), 0.1).kind == "timeout"


def test_interrupting_is_the_students_right(notebook):
    with pytest.raises(KeyboardInterrupt):
        notebook(double="def double(x):\n    raise KeyboardInterrupt")


def test_an_overview(notebook):
    _, printed = notebook("check()", relu="def relu(x):\n    raise NotImplementedError")
    assert printed.splitlines()[-4:] == [
        "double    all 5 visible cases pass (1 point if the hidden ones do too)",
        "relu      not written yet.",
        "keep_few  all 2 visible cases pass (3 points if the hidden ones do too). "
        "Two thirds of the weights are zero, and the outputs stay near.",
        "4 of 6 points on visible cases",
    ]


def test_part_of_a_capstone(notebook):
    half = (
        "def keep_few(w):\n    return torch.where(w.abs() >= w.abs().quantile(0.5), w, torch.zeros_like(w))"
    )
    namespace, printed = notebook("passed = check('keep_few')", keep_few=half)
    assert namespace["passed"] is False
    assert "keep_few: 1.5 of 3 points on the visible cases. More weights could be zero" in printed


def test_an_exercise_that_does_not_exist(notebook):
    assert (
        "'gelu' is no exercise of this lab; they are double, relu, keep_few" in notebook("check('gelu')")[1]
    )


def test_nothing_is_remembered_and_nothing_is_changed(notebook):
    spoil = "def double(x):\n    y = 2 * x\n    x *= 0\n    return y"
    namespace, printed = notebook("double = lambda x: 2 * x\npassed = check('double')", double=spoil)
    assert "in place" in printed
    assert namespace["passed"] is True


def test_a_missing_file_is_explained(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert lab_checks("tiny_lab")("double") is False
    assert f"tiny_lab.checks, are not in {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "other", "measure"])
def test_a_damaged_file_is_explained(released, tmp_path, monkeypatch, capsys, damage):
    whole = (released / "tiny_lab.checks").read_bytes()
    data = {"cut": whole[: len(whole) // 2], "other": b"{}", "measure": whole}[damage]
    (tmp_path / "tiny_lab.checks").write_bytes(data)  # and no measure.py beside it
    monkeypatch.chdir(tmp_path)
    assert lab_checks("tiny_lab")() is False
    printed = capsys.readouterr().out
    assert "tiny_lab.checks cannot be used" in printed
    assert ("measure.py is missing" in printed) == (damage == "measure")


def test_in_the_labs_own_folder_the_file_is_not_needed(monkeypatch, capsys):
    monkeypatch.chdir(TINY.folder)
    assert lab_checks("tiny_lab")() is False  # no functions here, but the checks were found
    assert "0 of 6 points" in capsys.readouterr().out


def test_an_editor_that_starts_elsewhere(released, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(globals(), "__vsc_ipynb_file__", str(released / "tiny_lab.ipynb"))
    assert lab_checks("tiny_lab")() is False
    assert "0 of 6 points" in capsys.readouterr().out


def test_a_recorded_lab_holds_what_the_lab_gives(released):
    recorded = checks_file.read(released / "tiny_lab.checks")
    assert list(recorded) == ["double", "relu", "keep_few"]
    for exercise in TINY.exercises:
        one = recorded[exercise.name]
        assert (one.exercise.points, one.exercise.seconds) == (exercise.points, exercise.seconds)
        assert [mistake.name for mistake in one.mistakes] == [
            a.name for a in TINY.wrong_answers(exercise.name)
        ]
    assert recorded["relu"].expected[2].exception == "ValueError"
    changed = {
        mistake.name: mistake.replies[0].arguments is not None for mistake in recorded["double"].mistakes
    }
    assert [name for name, was in changed.items() if was] == ["in_place"]


def test_the_students_import_is_light():
    program = (
        "import sys, dca_lab.grading; print([n for n in sys.modules if n.startswith('dca_lab.') or n == 'torch']);"
        "from dca_lab.grading import lab_checks;"
        "print(sorted(n for n in sys.modules if n.startswith('dca_lab.') and 'grading' not in n))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['dca_lab.grading']", "['dca_lab.files']"]


def test_every_name_that_is_offered_is_there():
    package = importlib.import_module("dca_lab.grading")
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="lab_checks"):
        package.nothing  # noqa: B018


def test_an_endless_function_is_interrupted():
    def endless(x):
        while True:
            try:
                pass
            except Exception:
                pass

    assert call(endless, (1,), 0.1).kind == "timeout"
    assert call(lambda x: x, (1,), 0.1).value == 1
