"""Grading on Dask workers, one of which is killed while it works."""

import collections
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import exported_class
import pytest

pytest.importorskip("distributed")

from distributed import Client
from grading_stand_in import DOUBLE, RELU, class_of

from dca_lab.grading import cluster, load_lab
from dca_lab.grading.batch import grade_folder
from dca_lab.grading.job import Job
from dca_lab.grading.records import RunError
from dca_lab.grading.submissions import Submission, find_submissions

TINY = load_lab(exported_class.TINY)
FEW = exported_class.FEW.format(share=0.75)
KINDS = {  # what a student handed in -> points
    "solved": ([DOUBLE, RELU, FEW], 6),
    "half": ([DOUBLE, RELU], 3),
    "ended": (["import os\n\ndef double(x):\n    os._exit(1)\n", FEW], 3),
}
CLASS = {f"{kind}{number}": kind for number in range(10) for kind in KINDS}


@pytest.fixture
def dask(tmp_path):
    """Starts schedulers and workers as processes of their own: dask("scheduler", ...)."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with ExitStack() as stack:

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                env=environment,
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def scheduler(dask, tmp_path):
    path = tmp_path / "scheduler.json"
    dask("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(path))
    for _ in range(600):
        if path.exists() and path.stat().st_size:
            return json.loads(path.read_text(encoding="utf-8"))["address"]
        time.sleep(0.1)
    pytest.fail("the scheduler did not start")


def test_a_killed_workers_submissions_are_graded_by_the_other(dask, scheduler, tmp_path):
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
    workers = [dask("worker", scheduler, *options) for _ in range(2)]
    with Client(scheduler, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
    class_of(tmp_path / "in", {student: KINDS[kind][0] for student, kind in CLASS.items()})
    (tmp_path / "in" / "torn.ipynb").write_bytes(b"no notebook")
    written = collections.Counter()
    with pytest.MonkeyPatch.context() as patch:
        from dca_lab.grading.records import Records

        original = Records.add

        def counted(self, record):
            written[record["student"]] += 1
            original(self, record)
            if sum(written.values()) == 8:
                os.kill(workers[0].pid, signal.SIGKILL)

        patch.setattr(Records, "add", counted)
        graded = grade_folder(TINY, tmp_path / "in", tmp_path / "out", scheduler=scheduler, progress=False)
    assert workers[0].wait(10) == -signal.SIGKILL and workers[1].poll() is None
    assert graded.problems == [] and graded.new == len(CLASS) + 1
    assert written == {student: 1 for student in (*CLASS, "torn")}
    wanted = {student: KINDS[kind][1] for student, kind in CLASS.items()} | {"torn": 0}
    assert {record["student"]: record["score"] for record in graded.records} == wanted
    ended = next(record for record in graded.records if record["student"] == "ended0")
    assert ended["exercises"]["double"]["outcome"] == "crashed"
    assert len(list((tmp_path / "out" / "records").glob("[!.]*.json"))) == len(wanted)
    again = grade_folder(TINY, tmp_path / "in", tmp_path / "out", scheduler=scheduler, progress=False)
    assert again.new == 0 and again.records == graded.records


def test_no_scheduler_and_no_worker_are_said(scheduler, tmp_path):
    class_of(tmp_path / "in", {"ann": [DOUBLE]})
    jobs = [Job(one, TINY.constants) for one in find_submissions(tmp_path / "in", lab=TINY.name)]
    for address, words in ((scheduler, "has no workers"), ("tcp://127.0.0.1:1", "no Dask scheduler answers")):
        with pytest.raises(RunError, match=words):
            list(cluster.graded_there(TINY, jobs, scheduler=address, seed="s", level="landlock", patience=1))


def test_what_is_sent_carries_its_bytes_or_its_problem(tmp_path):
    class_of(tmp_path / "in", {"ann": [DOUBLE]})
    (one,) = find_submissions(tmp_path / "in", lab=TINY.name)
    job = cluster.sent(Job(one, {}))
    one.path.unlink()
    assert job.submission.read().startswith(b"{") and job.submission.digest == one.digest
    for submission in (one, Submission("bo", tmp_path, problem="a link")):
        with pytest.raises(cluster.Unreadable, match="a link|the file is locked"):
            cluster.sent(Job(submission, {})).submission.read()
