"""A class graded: what a rerun does, what an error costs, and graders that are killed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import grading_stand_in as stand_in
import pytest
from grading_stand_in import DOUBLE, FEW, RELU, SOLVED, TINY, class_of

from dca_lab.grading import batch
from dca_lab.grading.batch import grade_folder
from dca_lab.grading.personal import Variants, VariantsError
from dca_lab.grading.records import RunError
from dca_lab.grading.sandbox import SandboxError, available_levels

SERVER = Path(stand_in.__file__)


@pytest.fixture
def grade(monkeypatch, tmp_path):
    stand_in.replace(monkeypatch)

    def run(submissions=tmp_path / "in", out=tmp_path / "out", **options):
        return grade_folder(TINY, submissions, out, progress=False, **({"workers": 2} | options))

    return run


def scores(out):
    with open(out / "grades.csv", encoding="utf-8", newline="") as file:
        return {row["student"]: float(row["score"]) for row in csv.DictReader(file)}


def record_files(out):
    return {path.name: path.stat().st_ino for path in (out / "records").glob("[!.]*.json")}


def test_a_class_with_all_its_outputs(grade, tmp_path):
    class_of(tmp_path / "in", {"ann": SOLVED, "bob": SOLVED[:2], "cid": []})
    (tmp_path / "in" / "dan.ipynb").write_bytes(b"\x00\x01 no notebook")
    graded = grade()
    assert scores(tmp_path / "out") == {"ann": 6, "bob": 3, "cid": 0, "dan": 0}
    assert (graded.new, graded.problems, graded.level) == (4, [], stand_in.LEVEL)
    by_name = {record["student"]: record for record in graded.records}
    assert by_name["dan"]["outcome"] == "unreadable" and by_name["dan"]["notes"]
    for student in by_name:
        result = json.loads((tmp_path / f"out/gradescope/{student}/results.json").read_text(encoding="utf-8"))
        assert result["score"] == by_name[student]["score"]
        assert (tmp_path / f"out/feedback/{student}.html").stat().st_size > 500
    assert (tmp_path / "out/report.html").exists()


def test_a_rerun_grades_what_changed_and_drops_what_is_gone(grade, tmp_path):
    class_of(tmp_path / "in", {"ann": SOLVED, "bob": SOLVED[:2], "cid": [], "eve": SOLVED})
    grade()
    before, seed = record_files(tmp_path / "out"), json.loads((tmp_path / "out/run.json").read_text())["seed"]
    assert grade().new == 0 and record_files(tmp_path / "out") == before
    class_of(tmp_path / "in", {"bob": SOLVED, "fay": SOLVED[1:]})
    (tmp_path / "in/eve.ipynb").unlink()
    assert grade().new == 2
    assert scores(tmp_path / "out") == {"ann": 6, "bob": 6, "cid": 0, "fay": 5}
    assert (
        not (tmp_path / "out/feedback/eve.html").exists() and not (tmp_path / "out/gradescope/eve").exists()
    )
    assert before.items() <= record_files(tmp_path / "out").items()
    assert json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))["seed"] == seed


def test_two_students_with_the_same_bytes_have_a_record_each(grade, tmp_path):
    class_of(tmp_path / "in", {"ann": SOLVED, "bob": SOLVED})
    grade()
    assert scores(tmp_path / "out") == {"ann": 6, "bob": 6}


def test_an_error_of_the_grader_stops_nothing_and_is_tried_again(grade, tmp_path):
    class_of(
        tmp_path / "in",
        {"ann": SOLVED, "bob": ["BREAK THE GRADER"], "cid": ["BREAK THE SANDBOX"], "dan": SOLVED},
    )
    graded = grade()
    assert scores(tmp_path / "out") == {"ann": 6, "bob": 0, "cid": 0, "dan": 6}
    assert [problem.split(":")[0] for problem in graded.problems] == ["bob", "cid"]
    assert "ZeroDivisionError" in graded.problems[0] and "0.123456" not in str(graded)
    again = grade()
    assert again.new == 2 and len(again.problems) == 2
    class_of(tmp_path / "in", {"bob": SOLVED})
    assert [problem.split(":")[0] for problem in grade().problems] == ["cid"]


def test_a_sandbox_that_breaks_once_is_replaced(grade, tmp_path, monkeypatch):
    class_of(tmp_path / "in", {"ann": SOLVED})
    made = []

    class Broken(stand_in.StandIn):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)
            self.closed = len(made) == 1  # refuses to open

    monkeypatch.setattr(batch, "Sandbox", Broken)
    assert grade().problems == [] and scores(tmp_path / "out") == {"ann": 6}
    assert len(made) == 2 and made[1].closed


def test_a_page_that_cannot_be_written_costs_that_page(grade, tmp_path, monkeypatch):
    from dca_lab.grading import outputs

    class_of(tmp_path / "in", {"ann": SOLVED})
    monkeypatch.setattr(outputs, "class_report", lambda *a: 1 / 0)
    assert "report.html could not be written: ZeroDivisionError" in grade().problems[0]
    assert scores(tmp_path / "out") == {"ann": 6}


def test_an_interrupt_keeps_what_is_graded(grade, tmp_path, monkeypatch):
    class_of(tmp_path / "in", {f"s{number}": SOLVED for number in range(8)})
    calls = []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return original(*arguments, **options)

    original = batch.stored.Records.add
    monkeypatch.setattr(batch.stored.Records, "add", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            grade()
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(batch.stored.Records, "add", original)
    assert not (tmp_path / "out/grades.csv").exists() and len(record_files(tmp_path / "out")) == 3
    with pytest.raises(RunError, match="--resume"):
        grade()
    assert grade(resume=True).new == 5 and len(scores(tmp_path / "out")) == 8
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("grade")]


def test_results_inside_the_submissions_are_refused(grade, tmp_path):
    class_of(tmp_path / "in", {"ann": SOLVED})
    with pytest.raises(RunError, match="lies inside"):
        grade(out=tmp_path / "in" / "results")


def test_no_sandbox_no_grading(tmp_path, monkeypatch):
    class_of(tmp_path / "in", {"ann": SOLVED})
    monkeypatch.setattr(
        batch.levels, "available_levels", lambda: {"bubblewrap": "no bwrap", "landlock": "no kernel"}
    )
    with pytest.raises(SandboxError, match=r"(?s)no bwrap.*no kernel.*--trusted"):
        grade_folder(TINY, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_personal_constants_are_known_to_the_grading(grade, tmp_path):
    lab = batch.load_lab(TINY)
    (tmp_path / "handout").mkdir()
    variants = Variants.made(tmp_path / "handout", lab, ["Ann Lee", "bob", "doejane"])
    class_of(tmp_path / "in", {"Ann Lee": SOLVED, "BOB": SOLVED, "doejane_12_34_lab": SOLVED, "zoe": SOLVED})
    graded = grade(variants=tmp_path / "handout" / "variants.json")
    found = {record["student"]: record for record in graded.records}
    for student, name in {"Ann_Lee": "Ann Lee", "BOB": "bob", "doejane_12": "doejane"}.items():
        assert found[student]["constants"] == variants.of([name]) and found[student]["notes"] == []
    assert found["zoe"]["constants"] == lab.constants and "not in the roster" in found["zoe"]["notes"][0]
    more = Variants.made(tmp_path / "handout", lab, ["zoe"])
    assert more.of(["bob"]) == variants.of(["bob"]) and more.students == ("Ann Lee", "bob", "doejane", "zoe")
    assert grade(variants=tmp_path / "handout").new == (more.of(["zoe"]) != lab.constants)
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    with pytest.raises(VariantsError, match="dca lab release"):
        grade(variants=tmp_path / "bad.json")


SLOW = "import time\ntime.sleep(0.02)"
CLASS = {f"s{number:02}": [SLOW, *([DOUBLE, RELU, FEW][: number % 4])] for number in range(12)}


def content(out):
    """What must not depend on how often the grader was killed."""
    records = {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in (out / "records").glob("[!.]*.json")
    }
    return {
        name: {key: value for key, value in one.items() if key != "seconds"} for name, one in records.items()
    }


def resumed_until_done(attempt, out, *, most=200):
    """Let `attempt(resume)` start, be killed and be resumed until it ends by itself; the number of kills."""
    kept: dict[str, int] = {}
    for kills in range(most):
        killed = attempt(kills > 0)
        now = record_files(out) if out.exists() else {}
        assert kept.items() <= now.items(), "a record was lost, or written again"
        kept = now
        if not killed:
            return kills
    raise AssertionError(f"not finished after {most} kills")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_nothing_is_lost_doubled_or_changed(tmp_path):
    """Twenty times SIGKILL at a real process, forked from one that has everything loaded, with the stand-in inside."""
    moments = random.Random(4)
    class_of(tmp_path / "in", CLASS)
    server = subprocess.Popen(
        [sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )

    def attempt(resume, out, seconds):
        print(json.dumps([str(tmp_path / "in"), str(out), resume, seconds]), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        assert status in (0, -signal.SIGKILL)
        return status != 0

    try:
        whole, forked = tmp_path / "whole", tmp_path / "forked"
        assert not attempt(False, whole, "here")
        begun = time.monotonic()
        assert not attempt(False, forked, None)
        longest = time.monotonic() - begun
        assert len(content(whole)) == 12 and content(forked) == content(whole)
        kills = rounds = 0
        while kills < 20:
            out = tmp_path / f"out{rounds}"
            moment = partial(moments.uniform, 0, longest)
            kills += resumed_until_done(lambda resume, out=out, m=moment: attempt(resume, out, m()), out)
            rounds += 1
            assert content(out) == content(whole)
            assert (
                scores(out)
                == scores(whole)
                == {f"s{number:02}": [0, 1, 3, 6][number % 4] for number in range(12)}
            )
    finally:
        server.stdin.close()
        server.wait(60)


def processes_of(marker):
    """Running processes whose command line or environment holds `marker`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in text:
            found.append(int(path.name))
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_the_command_killed_with_its_real_sandbox(tmp_path):
    if all(available_levels().values()):
        pytest.skip(f"no sandbox works here: {available_levels()}")
    class_of(tmp_path / "in", CLASS)
    out = tmp_path / "out"
    moments = iter([5])  # killed when so many records are there

    def attempt(resume):
        command = [
            sys.executable,
            "-c",
            "from dca_lab.cli import main; main()",
            "grade",
            str(TINY),
            str(tmp_path / "in"),
        ]
        command += ["--out", str(out), "--workers", "1", *(["--resume"] if resume else [])]
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        ) as process:
            wanted = next(moments, None)
            while wanted is not None and process.poll() is None:
                if len(list(out.glob("records/[!.]*.json"))) >= wanted:
                    process.kill()
                    break
                time.sleep(0.01)
            said = process.stdout.read().decode()
        assert process.returncode in (0, -signal.SIGKILL), said
        return process.returncode != 0

    assert resumed_until_done(attempt, out) == 1
    assert scores(out) == {f"s{number:02}": [0, 1, 3, 6][number % 4] for number in range(12)}
    assert len(content(out)) == 12
    for _ in range(100):  # the killed graders' sandboxes end by themselves
        if not processes_of(str(tmp_path / "dca-grade-")):
            break
        time.sleep(0.1)
    assert not processes_of(str(tmp_path / "dca-grade-"))
