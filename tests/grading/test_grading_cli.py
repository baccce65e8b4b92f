"""``dca lab`` and ``dca grade`` as an instructor uses them: what they print, refuse and return."""

import json
import shutil
import subprocess
import sys

import grading_stand_in as stand_in
import nbformat
import pytest
from click.testing import CliRunner
from grading_stand_in import SOLVED, TINY, class_of

from dca_lab.cli import main
from dca_lab.grading import batch, lab_folder, selftest
from dca_lab.grading import release as released
from dca_lab.grading.notebook import read_cells
from dca_lab.grading.selftest import Finding


@pytest.fixture
def run(monkeypatch):
    stand_in.replace(monkeypatch)
    monkeypatch.setattr(
        released, "target_pictures", lambda *arguments: {}
    )  # executing notebooks has its own tests
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def handed_in(tmp_path):
    return class_of(tmp_path / "in", {"ann": SOLVED, "bob": SOLVED[1:]})


def test_help_is_instant_and_says_what_to_do():
    code = "import sys, dca_lab.cli as c\n"
    code += "for line in (['-h'], ['lab', '-h'], ['lab', 'release', '-h'], ['grade', '-h']):\n"
    code += "    c.main(line, standalone_mode=False)\n"
    code += "print(sorted({'torch', 'numpy', 'nbformat', 'yaml', 'tqdm', 'IPython'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for words in (
        "A class in five steps",
        "--resume",
        "feedback/<student>.html",
        "--variants",
        "variants.json",
    ):
        assert words in done.stdout


def test_list_shows_every_lab_also_one_that_is_broken(run, tmp_path, monkeypatch):
    shutil.copytree(TINY, tmp_path / "labs" / "tiny")
    (tmp_path / "labs" / "broken").mkdir()
    (tmp_path / "labs" / "broken" / "checks.py").write_text("TITLE = ", encoding="utf-8")
    monkeypatch.setattr(lab_folder, "LABS", tmp_path / "labs")
    done = run("lab", "list")
    assert done.exit_code == 0
    assert "double 1, relu 2, keep_few 3" in done.output and "cannot be read" in done.output
    monkeypatch.setattr(lab_folder, "LABS", tmp_path / "nowhere")
    assert "there are no labs" in run("lab", "list").output


def test_release_and_grade_of_the_unsolved_copy(run, tmp_path):
    done = run("lab", "release", TINY, "--out", tmp_path / "handout")
    assert done.exit_code == 0, done.output
    book = nbformat.read(tmp_path / "handout" / "tiny_lab.ipynb", as_version=4)
    nbformat.validate(book)
    assert read_cells((tmp_path / "handout" / "tiny_lab.ipynb").read_bytes()).lab == "tiny_lab"
    (tmp_path / "in").mkdir()
    shutil.copy(tmp_path / "handout" / "tiny_lab.ipynb", tmp_path / "in" / "ann.ipynb")
    assert run("grade", TINY, tmp_path / "in", "--out", tmp_path / "out").exit_code == 0
    record = json.loads(next((tmp_path / "out" / "records").iterdir()).read_text(encoding="utf-8"))
    assert {entry["outcome"] for entry in record["exercises"].values()} == {"not written yet"}
    assert record["notes"] == []


def test_release_of_variants_is_known_to_the_grading(run, tmp_path):
    (tmp_path / "roster.csv").write_text("student\nAnn Lee\nbob\n", encoding="utf-8")
    arguments = ("lab", "release", TINY, "--out", tmp_path / "handout", "--variants", tmp_path / "roster.csv")
    done = run(*arguments)
    assert done.exit_code == 0 and "2 folders" in done.output and "variants.json" in done.output
    key = json.loads((tmp_path / "handout/variants.json").read_text(encoding="utf-8"))
    (tmp_path / "in").mkdir()
    told = {}
    for folder in ("Ann_Lee", "bob"):
        path = tmp_path / "handout" / folder / "tiny_lab.ipynb"
        told[folder] = nbformat.read(path, as_version=4).metadata["dca_lab"]["variant"]["constants"]
        shutil.copy(path, tmp_path / "in" / f"{folder.replace('_', ' ')}.ipynb")
    done = run(
        "grade",
        TINY,
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        "--variants",
        tmp_path / "handout/variants.json",
    )
    assert done.exit_code == 0, done.output
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "out/records").iterdir()]
    assert {record["student"]: record["constants"] for record in records} == told
    assert run(*arguments).exit_code == 0
    assert json.loads((tmp_path / "handout/variants.json").read_text(encoding="utf-8")) == key
    done = run("grade", TINY, tmp_path / "in", "--out", tmp_path / "o", "--variants", tmp_path / "roster.csv")
    assert done.exit_code == 1 and "variants.json" in done.output


def test_refusals_say_what_to_do(run, tmp_path, handed_in):
    def refused(words, *arguments):
        done = run(*arguments)
        assert done.exit_code in (1, 2) and words in " ".join(done.output.split()), done.output
        assert isinstance(done.exception, SystemExit)  # an exception of click, not one that got away

    refused("tiny_lab", "lab", "release", tmp_path / "tiny_lab", "--out", tmp_path / "x")
    refused("another folder", "lab", "release", TINY, "--out", TINY)
    refused("is not a lab", "grade", tmp_path, handed_in, "--out", tmp_path / "out")
    refused(
        "leave --level out",
        "grade",
        TINY,
        handed_in,
        "--out",
        tmp_path / "o",
        "--trusted",
        "--level",
        "landlock",
    )
    refused("lies inside", "grade", TINY, handed_in, "--out", handed_in / "out")
    (tmp_path / "empty").mkdir()
    refused("Canvas", "grade", TINY, tmp_path / "empty", "--out", tmp_path / "out")
    refused("holds no run", "grade", TINY, handed_in, "--out", tmp_path)


def test_without_a_sandbox_grading_is_refused(run, tmp_path, handed_in, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(
        batch.levels, "available_levels", lambda: {"bubblewrap": "no bwrap", "landlock": "old kernel"}
    )
    done = run("grade", TINY, handed_in, "--out", tmp_path / "out")
    assert done.exit_code == 1
    for words in ("no bwrap", "old kernel", "bubblewrap", "--trusted"):
        assert words in done.output


def test_a_run_that_was_stopped_says_how_to_go_on(run, tmp_path, handed_in, monkeypatch):
    original = batch.write_outputs
    monkeypatch.setattr(batch, "write_outputs", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    done = run("grade", TINY, handed_in, "--out", tmp_path / "out")
    assert done.exit_code == 130 and "--resume" in done.output
    monkeypatch.setattr(batch, "write_outputs", original)
    done = run("grade", TINY, handed_in, "--out", tmp_path / "out")
    assert done.exit_code == 1 and "Add --resume" in done.output
    done = run("grade", TINY, handed_in, "--out", tmp_path / "out", "--resume")
    assert done.exit_code == 0 and "0 graded, 2 unchanged" in done.output


def test_errors_of_the_grader_are_listed_at_the_end(run, tmp_path, handed_in):
    class_of(handed_in, {"eve": ["BREAK THE GRADER"]})
    done = run("grade", TINY, handed_in, "--out", tmp_path / "out", "--workers", 1)
    assert done.exit_code == 3
    assert "3 graded" in done.output and "eve: " in done.output and "the next run tries again" in done.output


def test_test_prints_what_is_wrong_and_fails(run, monkeypatch):
    from dca_lab.grading import sandbox

    found = [Finding("ok", "solved"), Finding("wrong", "stub", "double earned its points")]
    monkeypatch.setattr(sandbox, "Sandbox", stand_in.StandIn)
    monkeypatch.setattr(selftest, "selftest", lambda lab, *, sandbox, seed: [*found, Finding("note", seed)])
    done = run("lab", "test", TINY, "--seed", "again")
    assert "--seed again" in done.output and "again" in done.output.splitlines()[-3]
    printed = [run("lab", "test", TINY).output.split(":")[0] for _ in range(2)]
    assert printed[0].startswith("seed ") and printed[0] != printed[1]
    assert done.exit_code == 1 and "double earned its points" in done.output and "1 wrong" in done.output
    found.pop()
    done = run("lab", "test", TINY, TINY)
    assert done.exit_code == 0 and done.output.count("1 as they should be, 1 to read, 0 wrong") == 2
