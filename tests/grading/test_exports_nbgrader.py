"""The nbgrader export, taken through a course: generate, release, submit, collect, autograde, export."""

import csv
import json
import os
import sys
from pathlib import Path

import exported_class
import nbformat
import pytest

pytest.importorskip("nbgrader")

from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.exchange.default import ExchangeSubmit
from nbgrader.plugins import CsvExportPlugin
from traitlets.config import PyFileConfigLoader

from dca_lab.grading import load_lab
from dca_lab.grading.release import leaks, release

LAB = load_lab(exported_class.TINY)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course as it is after `export`: its folder, the rows of the CSV, the API."""
    folder = tmp_path_factory.mktemp("nbgrader")
    top, exchange = folder / "course", folder / "exchange"
    exchange.mkdir()
    exchange.chmod(0o777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # nbgrader calls `alembic`
        exported_class.same_seed(patch)
        release(LAB, top, format="nbgrader", targets=False)
        config = PyFileConfigLoader("nbgrader_config.py", path=str(top)).load_config()
        config.Exchange.root, config.Exchange.cache = str(exchange), str(folder / "cache")
        config.CourseDirectory.root = str(top)
        api = NbGraderAPI(CourseDirectory(config=config), config=config)

        def step(result):
            assert result["success"], result["log"]

        step(api.generate_assignment(LAB.name))
        step(api.release_assignment(LAB.name))
        outbound = exchange / "course" / "outbound" / LAB.name
        work = folder / "class"
        exported_class.write_class(outbound / f"{LAB.name}.ipynb", work, "{student}/tiny_lab.ipynb")
        for student in exported_class.CLASS:
            patch.chdir(work / student)
            own = CourseDirectory(config=config, assignment_id=LAB.name, student_id=student)
            submit = ExchangeSubmit(coursedir=own, authenticator=api.authenticator, config=config)
            submit.src_path = str(work / student)
            patch.setattr(submit, "init_src", lambda: None)  # the student's own copy of the assignment
            submit.start()
        step(api.collect(LAB.name))
        for student in exported_class.CLASS:
            step(api.autograde(LAB.name, student))
        with Gradebook(api.coursedir.db_url, api.coursedir.course_id) as gradebook:
            CsvExportPlugin(to=str(folder / "grades.csv")).export(gradebook)
        records = exported_class.graded(top, folder / "results")
    with open(folder / "grades.csv", encoding="utf-8", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    return top, rows, records


@pytest.mark.parametrize("student", exported_class.CLASS)
def test_nbgrader_gives_what_dca_grade_gives(course, student):
    top, rows, records = course
    assert float(rows[student]["score"]) == records[student]["score"] == exported_class.TOTALS[student]
    assert float(rows[student]["max_score"]) == LAB.points
    graded = nbformat.read(top / "autograded" / student / LAB.name / f"{LAB.name}.ipynb", as_version=4)
    cells = {cell.metadata.nbgrader.grade_id: cell for cell in graded.cells if "nbgrader" in cell.metadata}
    for name, entry in records[student]["exercises"].items():
        outputs = cells[f"graded-{name}"].outputs
        assert not [one for one in outputs if one.output_type == "error" or one.get("name") == "stderr"]
        assert [float(one.data["text/plain"]) for one in outputs if one.output_type == "execute_result"] == [
            entry["points"]
        ]


def test_students_get_no_answer_and_no_hidden_case(course):
    files = [path for path in (course[0] / "release").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"tiny_lab.ipynb", "tiny_lab.checks", "measure.py"}
    notebook = next(path for path in files if path.suffix == ".ipynb").read_text(encoding="utf-8")
    assert not leaks(LAB, notebook) and "HIDDEN" not in notebook and "exports.beside" not in notebook
    locked = [
        "".join(cell["source"])
        for cell in json.loads(notebook)["cells"]
        if cell["metadata"].get("nbgrader", {}).get("locked")
    ]
    assert any("lab_checks" in text for text in locked) and 'check("relu")' in locked


def test_an_instructors_settings_are_kept(tmp_path):
    (tmp_path / "nbgrader_config.py").write_text("mine", encoding="utf-8")
    release(LAB, tmp_path, format="nbgrader", targets=False)
    assert (tmp_path / "nbgrader_config.py").read_text(encoding="utf-8") == "mine"


def test_a_personal_variant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--format plain"):
        release(LAB, tmp_path, format="nbgrader", student="ann")
