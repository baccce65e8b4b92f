"""The otter export, graded by `otter run` itself."""

import json
import subprocess
import sys

import exported_class
import pytest

pytest.importorskip("otter")

from dca_lab.grading import load_lab
from dca_lab.grading.release import leaks, release

LAB = load_lab(exported_class.TINY)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("otter")
    with pytest.MonkeyPatch.context() as patch:
        exported_class.same_seed(patch)
        notebook = release(LAB, folder / "release", format="otter", targets=False)
        work = exported_class.write_class(notebook, folder / "class")
        yield folder, exported_class.graded(work, folder / "results")


def otter_run(folder, student):
    """The scores that otter gives, by exercise."""
    out = folder / "out" / student
    out.mkdir(parents=True)
    zipped = folder / "release" / "autograder" / "autograder.zip"
    command = [sys.executable, "-m", "otter", "run", "--no-logo", "-a", zipped, "-o", out]
    subprocess.run([*command, folder / "class" / f"{student}.ipynb"], check=True, capture_output=True)
    tests = json.loads((out / "results.json").read_text(encoding="utf-8"))["tests"]
    return {test["name"]: test for test in tests if "score" in test}


@pytest.mark.parametrize("student", ("right", "wrong", "crashing"))
def test_otter_gives_what_dca_grade_gives(exported, student):
    folder, records = exported
    tests = otter_run(folder, student)
    points = {name: entry["points"] for name, entry in records[student]["exercises"].items()}
    assert {name: test["score"] for name, test in tests.items()} == pytest.approx(points)
    assert sum(test["score"] for test in tests.values()) == pytest.approx(exported_class.TOTALS[student])
    assert sum(test["max_score"] for test in tests.values()) == LAB.points
    if student == "wrong":
        assert "You squared" in tests["double"]["output"]


def test_students_get_no_answer_and_no_hidden_case(exported):
    files = [path for path in (exported[0] / "release" / "student").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"tiny_lab.ipynb", "tiny_lab.checks", "measure.py", "double.py"} <= names
    assert not [name for name in names if name.endswith((".hidden", ".zip"))]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".ipynb")]
    assert not [line for text in texts for line in leaks(LAB, text)]


def test_students_can_run_the_visible_tests(exported):
    from otter.test_files import ExceptionTestFile

    student = exported[0] / "release" / "student"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(student)
        test = ExceptionTestFile.from_file("tests/double.py")
        test.run({"double": lambda x: x + x})
        assert test.passed_all
        test.run({"double": lambda x: x**2})
        assert not test.passed_all and "You squared" in test.summary()
        test.run({})
        assert "There is no function `double`" in test.summary()


def test_a_personal_variant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--format plain"):
        release(LAB, tmp_path, format="otter", student="ann")
