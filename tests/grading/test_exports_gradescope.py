"""The Gradescope zip, unpacked and run as their machine would, with its folders elsewhere."""

import json
import os
import subprocess
import sys
import zipfile

import exported_class
import pytest
from grading_stand_in import DOUBLE, RELU, notebook

from dca_lab.grading import load_lab
from dca_lab.grading.batch import grade_folder
from dca_lab.grading.gradescope import gradescope_result
from dca_lab.grading.release import release

LAB = load_lab(exported_class.TINY)
FEW = exported_class.FEW.format(share=0.75)


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    """/autograder, with the zip unpacked into `source`, and the clone's files by name."""
    root = tmp_path_factory.mktemp("gradescope")
    path = release(LAB, root / "release", format="gradescope")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(root / "source")
    return root


def run(root, *files):
    """Run run_autograder on a submission; its exit status and the results, if there are any."""
    for old in (root / "submission", root / "results"):
        subprocess.run(["rm", "-rf", old], check=True)
    (root / "submission").mkdir()
    for name, data in files:
        (root / "submission" / name).write_bytes(data)
    environment = {
        **os.environ,
        "AUTOGRADER": str(root),
        "DCA_PYTHON": sys.executable,
        "PYTHONPATH": str(root / "source" / "project"),  # the package of the zip, not ours
        "TMPDIR": str(root),
    }
    done = subprocess.run(["bash", root / "source" / "run_autograder"], env=environment, check=False)
    results = root / "results" / "results.json"
    return done.returncode, json.loads(results.read_text(encoding="utf-8")) if results.exists() else None


def here(root, cells):
    """What `dca grade` gives for the same notebook, as Gradescope's results."""
    folder = root / "here" / "submission"
    folder.mkdir(parents=True)
    (folder / "work.ipynb").write_bytes(notebook(*cells))
    graded = grade_folder(LAB, root / "here", root / "here-out", workers=1, progress=False)
    return gradescope_result(graded.records[0])


def test_the_zip_gives_what_dca_grade_gives(autograder, tmp_path):
    cells = [DOUBLE.replace("2 * x", "x ** 2"), RELU, FEW]
    status, there = run(autograder, ("work.ipynb", notebook(*cells)))
    assert status == 0 and there["score"] == 5.0
    ours = here(tmp_path, cells)
    for result in (ours, there):
        assert result.pop("execution_time") >= 0
    assert there == ours
    assert not list(autograder.glob("tmp.*"))  # the run's folder, with its secret seed, is gone


def test_what_cannot_be_read_has_a_result_and_nothing_handed_in_has_none(autograder):
    status, there = run(autograder, ("work.ipynb", b"\x00 no notebook"))
    assert status == 0 and there["score"] == 0 and there["output"]
    assert run(autograder)[1] is None  # an error of theirs, not a 0 of the student's


def test_the_zip_runs_as_it_is_unpacked_there(autograder):
    source = autograder / "source"
    for name in ("setup.sh", "run_autograder"):
        assert subprocess.run(["bash", "-n", source / name], check=False).returncode == 0
    with zipfile.ZipFile(next((autograder / "release").glob("*.zip"))) as archive:
        modes = {one.filename: one.external_attr >> 16 for one in archive.infolist()}
    assert modes["setup.sh"] & 0o111 and modes["run_autograder"] & 0o111
    assert not [name for name in modes if "__pycache__" in name or name.startswith("project/tests")]
    assert load_lab(source / "labs" / LAB.name).digest == LAB.digest
    for name in ("LICENSE", "data/README.md", "dca_lab/files.py"):
        assert (source / "project" / name).read_bytes() == (
            exported_class.TINY.parents[2] / name
        ).read_bytes()


def test_variants_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--format plain"):
        release(LAB, tmp_path, format="gradescope", student="ann")
    with pytest.raises(ValueError, match="standard constants"):
        release(LAB, tmp_path, format="gradescope", constants={"width": 6})
