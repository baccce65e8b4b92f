"""Hostile notebooks in a class of honest ones: no point, no secret, nobody hurt, and the class is graded to its end."""

import csv
import dataclasses
import hashlib
import importlib
import os
import re
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from attacks import FEW, HONEST, IMPORTS, RELU
from attacks.files import hostile
from attacks.watching import LONG, contents, notebook, numbers, observed, open_to_all, ours, student

import dca_lab
from dca_lab.grading import batch, records
from dca_lab.grading.batch import grade_folder
from dca_lab.grading.exercise import load_lab, public_cases
from dca_lab.grading.sandbox import Limits, Sandbox, available_levels
from dca_lab.grading.submissions import find_submissions

TINY = Path(__file__).with_name("tiny_lab")
PACKAGE = Path(dca_lab.__file__).resolve().parent
KINDS = ("reading", "writing", "network", "lying", "patching", "forging", "leaking", "words", "exhausting")
ATTACKS = [attack for kind in KINDS for attack in importlib.import_module(f"attacks.{kind}").ATTACKS]
LIMITS = Limits(
    cpu_seconds=8, wall_seconds=8, cell_seconds=2, memory=400 << 20, file_bytes=8 << 20, files=300
)
SEED = "5eed" * 8  # stands for the run's secret, so that it can be looked for
THREADS = "from concurrent.futures import ThreadPoolExecutor\n"
POOLED = f"""{THREADS}
def double(x):
    with ThreadPoolExecutor(4) as pool:
        return 2 * list(pool.map(lambda one: one, [x] * 4))[3]
"""
NEIGHBOURS = {
    "honest": HONEST,
    "p honest": (IMPORTS, POOLED, RELU, FEW),
    "t honest": (IMPORTS, POOLED, RELU, FEW),
}
NEIGHBOURS |= {"zz honest": HONEST, "d honest": (IMPORTS, POOLED, RELU, FEW), "k honest": HONEST}


@dataclasses.dataclass
class Result:
    """A graded class and what was there before."""

    out: Path
    records: dict
    problems: list
    hidden: set  # texts of hidden inputs
    mark: str
    before: dict
    after: dict
    living: tuple

    def pages(self):
        """Everything that students or their platform see."""
        wanted = [*self.out.glob("feedback/*"), *self.out.glob("gradescope/*/*"), self.out / "grades.csv"]
        return {path: path.read_text(encoding="utf-8") for path in wanted}


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def graded(request, tmp_path_factory):
    """One batch with every attack and all neighbours."""
    level = request.param
    if reason := available_levels()[level]:
        pytest.skip(f"{level}: {reason}")
    top = tmp_path_factory.mktemp(level)
    mark = f"mark-{secrets.token_hex(6)}"
    submissions, out = top / "in", top / "out"
    submissions.mkdir()
    lab, seen, tops = load_lab(TINY), [], []
    visible = public_cases(lab.exercise("double"), lab.constants)
    known = {
        hashlib.sha256(case.args[0].numpy().tobytes()).hexdigest(): (2 * case.args[0]).tolist()
        for case in visible
    }
    places = {"results": str(out), "submissions": str(submissions), "lab": str(TINY), "package": str(PACKAGE)}
    places |= {"mark": mark, "known": known}
    for attack in ATTACKS:
        (submissions / f"{attack.name}.ipynb").write_bytes(notebook(attack.cells, places))
    for name, cells in NEIGHBOURS.items():
        (submissions / f"{name}.ipynb").write_bytes(notebook(cells))
    open_to_all(top)

    class Watched(Sandbox):
        def __init__(self, **options):
            super().__init__(**options, limits=LIMITS)
            tops.append(str(self._keeper._top))

    watched = {"lab": TINY, "package": PACKAGE, "submissions": submissions, "around": top}
    before = {name: contents(folder, but=["out"]) for name, folder in watched.items()}
    living = ours(tops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "Sandbox", Watched)
        patch.setattr(records.secrets, "token_hex", lambda size: SEED)
        signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the batch does not end"))
        signal.alarm(400)
        result = grade_folder(observed(lab, seen), submissions, out, level=level, workers=2, progress=False)
        signal.alarm(0)
    shown = {text for one in lab.exercises for text in numbers(public_cases(one, lab.constants))}
    return Result(
        out,
        {record["student"]: record for record in result.records},
        result.problems,
        numbers(case for _, case in seen) - shown,
        mark,
        before,
        {name: contents(folder, but=["out"]) for name, folder in watched.items()},
        (living, ours(tops)),
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_no_unearned_point(graded, attack):
    record = graded.records[student(attack.name)]
    earned = {name: entry["points"] for name, entry in record["exercises"].items()}
    assert earned["double"] <= attack.most, attack.tries
    assert record["outcome"] == "graded", record["notes"]
    if attack.rest:
        assert (earned["relu"], earned["keep_few"]) == (2, 3), record["exercises"]


def test_neighbours_keep_their_points(graded):
    assert {name: graded.records[student(name)]["score"] for name in NEIGHBOURS} == dict.fromkeys(
        NEIGHBOURS, 6.0
    )


def test_the_class_is_graded_without_an_error_of_the_grader(graded):
    assert graded.problems == []
    assert len(graded.records) == len(ATTACKS) + len(NEIGHBOURS)
    with open(graded.out / "grades.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["student"]: float(row["score"]) for row in rows} == pytest.approx(
        {name: record["score"] for name, record in graded.records.items()}, abs=1e-4
    )
    assert (graded.out / "report.html").stat().st_size > 1000


def test_the_visible_inputs_can_be_learnt_and_help_nobody(graded):
    entry = graded.records["learn_and_remember"]["exercises"]["double"]
    assert entry["public"]["passed"] and entry["points"] == 0


def test_no_secret_is_shown(graded):
    assert len(graded.hidden) > 40
    for path, text in graded.pages().items():
        assert SEED not in text, path
        found = graded.hidden & set(re.findall(rf"(?=(\d[\d._]{{{LONG - 1}}}))", text))
        assert not found, (path, found)
        for source in ("torch's own, and ValueError", "relative_oracle", "by_addition", "BEGIN SOLUTION"):
            assert source not in text, path


def test_nothing_of_the_grader_was_changed(graded):
    for place, files in graded.before.items():
        assert graded.after[place] == files, place
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/", "/root", "/home", os.getcwd(), tempfolder(graded)):
        if os.access(folder, os.R_OK):
            assert not [name for name in os.listdir(folder) if graded.mark in name], folder


def tempfolder(graded):
    return str(graded.out.parent)


def test_no_process_is_left(graded):
    before, after = graded.living
    assert after <= before


def test_pages_are_harmless(graded):
    """Nothing that came with a submission is markup, a formula, or a character that cannot be seen."""
    for path, text in graded.pages().items():
        if path.suffix != ".html":
            continue  # results.json says itself that it is plain text
        for bad in (
            "<script",
            "<img",
            "onerror=alert(1)>",
            "<b>E",
            "<i>",
            "\x1b",
            "\x00",
            "\x08",
            "\u202e",
            "\u2066",
            "\ufeff",
        ):
            assert bad not in text, (path, bad)
    with open(graded.out / "grades.csv", encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_hostile_files(tmp_path):
    """Names, links, pipes, archives, bombs: everybody has a row, honest work its points; nothing is written elsewhere."""
    level = next((name for name, reason in available_levels().items() if not reason), None)
    if level is None:
        pytest.skip(f"no sandbox: {available_levels()}")
    top, outside = tmp_path / "class", tmp_path / "outside"
    for folder in (top, outside):
        folder.mkdir()
    most = hostile(top, notebook(HONEST), outside / "solved.ipynb")
    (top / "honest.ipynb").write_bytes(notebook(HONEST))
    before = contents(tmp_path, but=["out"])
    command = [sys.executable, "-c", "from dca_lab.cli import main; main()", "grade"]
    # the command itself, from elsewhere: a file that is called like an option must not become one
    run = subprocess.run(
        [*command, TINY, top, "--out", tmp_path / "out", "--level", level],
        capture_output=True, text=True, timeout=300, cwd=outside,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert "\x1b[2J" not in run.stdout + run.stderr and "\u202e" not in run.stdout + run.stderr
    assert contents(tmp_path, but=["out"]) == before
    named = {name: found.student for found in find_submissions(top, lab="tiny_lab") for name in found.aliases}
    assert len({one.casefold() for one in named.values()}) == len(named) == len(most) + 1
    graded = {one["student"]: one for one in records.Records(tmp_path / "out" / "records").all().values()}
    assert {name: graded[named[name]]["score"] for name in most} == most
    assert graded["honest"]["score"] == 6
    pages = {path.name for path in (tmp_path / "out" / "feedback").iterdir()}
    assert len(pages) == len(named) and all(re.fullmatch(r"[\w.@-]+\.html", page) for page in pages)
    for place in (Path("/tmp"), tmp_path, top, outside, tmp_path / "out"):
        assert not (place / "climbed.ipynb").exists() and not (place / "pickled").exists()
